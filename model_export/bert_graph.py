"""The BERT-shaped decoder as an ONNX graph under the engine contract.

Built op by op from the checkpoint's weights rather than traced, which leaves three things in our hand:

- the last layer computes queries, attention and feed-forward for `output_positions` only (its keys and values
  are still those of every token, as `present` needs them): 14 % of the work of six layers;
- token embedding and vocabulary head are one stored matrix;
- residual and LayerNormalization stay two operators. ONNX Runtime would fuse them into SkipLayerNormalization,
  whose CPU kernel takes 8 times as long as LayerNormalization's; the fusion needs equal known shapes, and a
  Reshape hides one of them.

Shapes: S tokens in one row, P past slots, N output positions, M vocabulary rows, H hidden, V vocabulary.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript import GraphBuilder
from transformers import BertLMHeadModel

from model_export.contract import FLOATS, IR_VERSION, OPSET, ContractInputs, make_inputs, set_outputs
from relevance.artifact import GraphInfo

EMBEDDING = "bert.embeddings.word_embeddings.weight"
LABEL_HEAD = "label_head.weight"

# Left in float32 by quantisation. The head's transform runs on N rows only, so it costs nothing, and it starts
# training as the identity: one large entry a column, beside which int8 rounds what was learned to zero.
KEEP = frozenset({LABEL_HEAD, "cls.predictions.transform.dense.weight"})

# exp(-60) = 9e-27 is nothing beside 1, and still a normal float32. A larger bias gives masked slots denormal
# probabilities, and arithmetic on those makes a 256-token pack 1.5 times as slow.
MASKED_BIAS = -60.0


def bert_graph_info(model: BertLMHeadModel, dtype: str) -> GraphInfo:
    """What the manifest says of the graph; `dtype` is that of weights, KV and bias."""
    config = model.config
    return GraphInfo.model_validate(
        {
            "architecture": "bert",
            "num_layers": config.num_hidden_layers,
            "num_kv_heads": config.num_attention_heads,
            "head_dim": config.hidden_size // config.num_attention_heads,
            "hidden_size": config.hidden_size,
            "vocab_size": config.vocab_size,
            "max_positions": config.max_position_embeddings,
            "kv_dtype": dtype,
            "bias_dtype": dtype,
            "masked_bias": MASKED_BIAS,
        }
    )


def build_bert_graph(model: BertLMHeadModel, label_token_ids: tuple[int, ...], dtype: str = "float32") -> ir.Model:
    """The graph of `model`, label head cut to `label_token_ids`."""
    info = bert_graph_info(model, dtype)
    inputs = make_inputs(info)
    graph = ir.Graph(inputs.in_order, [], nodes=[], opset_imports={"": OPSET, "com.microsoft": 1}, name="bert_decoder")
    graph.register_initializer(inputs.vocab_rows)
    decoder = _BertDecoder(model, GraphBuilder(graph), dtype)
    hidden = decoder.embed(inputs)
    present = []
    for layer in range(info.num_layers):
        hidden, key_value = decoder.layer(hidden, layer, inputs, is_last=layer == info.num_layers - 1)
        present.append(key_value)
    set_outputs(graph, info, decoder.heads(hidden, inputs.vocab_rows, label_token_ids), present)
    for node in graph:
        node.metadata_props.clear()  # the builder's debugging notes
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="model_export")


class _BertDecoder:
    """Emits the nodes of one checkpoint into one builder."""

    def __init__(self, model: BertLMHeadModel, builder: GraphBuilder, dtype: str) -> None:
        self._config = model.config
        self._state = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
        self._builder = builder
        self._dtype = dtype
        self._op = builder.op

    def _weight(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        existing: ir.Value | None = self._builder.graph.initializers.get(name)
        if existing is not None:
            return existing
        values = np.ascontiguousarray(array.astype(self._dtype))
        return self._builder.initializer(ir.tensor(values, name=name), qualify=False)

    def _norm(self, hidden: ir.Value, name: str) -> ir.Value:
        weight = self._weight(f"{name}.weight", self._state[f"{name}.weight"])
        bias = self._weight(f"{name}.bias", self._state[f"{name}.bias"])
        epsilon = self._config.layer_norm_eps
        return self._op.LayerNormalization(hidden, weight, bias, axis=-1, epsilon=epsilon)

    def _linear(self, hidden: ir.Value, *names: str) -> ir.Value:
        """One matrix product for the linear layers `names`, outputs side by side."""
        weight = np.concatenate([self._state[f"{name}.weight"] for name in names]).T
        bias = np.concatenate([self._state[f"{name}.bias"] for name in names])
        fused = "+".join(names)
        product = self._op.MatMul(hidden, self._weight(f"{fused}.weight", weight))
        return self._op.Add(product, self._weight(f"{fused}.bias", bias))

    def _unfused(self, hidden: ir.Value) -> ir.Value:
        """`hidden` with a length shape inference does not know: see the module docstring."""
        return self._op.Reshape(hidden, [0, -1, self._config.hidden_size])

    def embed(self, inputs: ContractInputs) -> ir.Value:
        """Token plus position embeddings, normalised; every token is of type 0. [1, S, H]."""
        positions = self._state["bert.embeddings.position_embeddings.weight"]
        token_type = self._state["bert.embeddings.token_type_embeddings.weight"][0]
        tokens = self._op.Gather(self._weight(EMBEDDING, self._state[EMBEDDING]), inputs.input_ids)
        placed = self._op.Gather(self._weight("positions.weight", positions + token_type), inputs.position_ids)
        return self._norm(self._op.Add(self._unfused(tokens), placed), "bert.embeddings.LayerNorm")

    def layer(
        self, hidden: ir.Value, layer: int, inputs: ContractInputs, *, is_last: bool
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """One transformer layer: hidden states [1, S, H], or [1, N, H] from the last, and present (key, value)."""
        op, name = self._op, f"bert.encoder.layer.{layer}"
        query_name, key_name, value_name = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        bias, read = inputs.attention_bias, hidden
        if is_last:
            key, value = op.Split(self._linear(hidden, key_name, value_name), axis=-1, num_outputs=2, _outputs=2)
            read = op.Gather(hidden, inputs.output_positions, axis=1)
            bias = op.Gather(bias, inputs.output_positions, axis=2)
            query = self._linear(read, query_name)
        else:
            fused = self._linear(hidden, query_name, key_name, value_name)
            query, key, value = op.Split(fused, axis=-1, num_outputs=3, _outputs=3)
        heads = self._config.num_attention_heads
        past_key, past_value = inputs.past[layer]
        attended, present_key, present_value = op.Attention(
            query, key, value, bias, past_key, past_value, q_num_heads=heads, kv_num_heads=heads, _outputs=3
        )
        attended = op.Add(self._linear(self._unfused(attended), f"{name}.attention.output.dense"), read)
        attended = self._norm(attended, f"{name}.attention.output.LayerNorm")
        inner = op.Gelu(self._linear(attended, f"{name}.intermediate.dense"))
        output = self._norm(op.Add(self._linear(inner, f"{name}.output.dense"), attended), f"{name}.output.LayerNorm")
        return output, (present_key, present_value)

    def heads(
        self, hidden: ir.Value, vocab_rows: ir.Value, label_token_ids: tuple[int, ...]
    ) -> tuple[ir.Value, ir.Value]:
        """Label logits [N, K] in float32, and vocabulary logits [M, V] of the rows asked for."""
        op, transform = self._op, "cls.predictions.transform"
        hidden = op.Reshape(hidden, [-1, self._config.hidden_size])
        hidden = self._norm(op.Gelu(self._linear(hidden, f"{transform}.dense")), f"{transform}.LayerNorm")
        labels = list(label_token_ids)
        bias = self._state["cls.predictions.bias"]
        label_weight = self._weight(LABEL_HEAD, self._state[EMBEDDING][labels].T)
        label_logits = op.Add(op.MatMul(hidden, label_weight), self._weight("label_head.bias", bias[labels]))
        embedding = self._weight(EMBEDDING, self._state[EMBEDDING])
        rows = op.Gather(hidden, vocab_rows, axis=0)
        vocab_logits = op.Add(op.MatMul(rows, op.Transpose(embedding, perm=[1, 0])), self._weight("vocab.bias", bias))
        if self._dtype != "float32":
            label_logits = op.Cast(label_logits, to=FLOATS["float32"])
            vocab_logits = op.Cast(vocab_logits, to=FLOATS["float32"])
        return label_logits, vocab_logits
