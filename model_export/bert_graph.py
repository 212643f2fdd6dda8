"""The BERT-shaped decoder as an ONNX graph under the engine contract.

Built op by op from the checkpoint's weights rather than traced, which leaves three things in our hand:

- the last layer computes queries, attention and feed-forward for `output_positions` only (its keys and values
  are still those of every token, as `present` needs them): 14 % of the work of six layers;
- token embedding and vocabulary head are one stored matrix;
- residual and LayerNormalization stay two operators. ONNX Runtime would fuse them into SkipLayerNormalization,
  whose CPU kernel takes 8 times as long as LayerNormalization's; the fusion needs equal known shapes, and a
  Reshape hides one of them.

At int8 the attention is spelt out with sums that are exact, so that a score is the same to the bit in any company:
see `exact_attention`.

Shapes: S tokens in one row, P past slots, N output positions, M vocabulary rows, H hidden, V vocabulary.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript import GraphBuilder
from transformers import BertLMHeadModel

from model_export.contract import (
    FLOATS,
    IR_VERSION,
    AttentionForm,
    ContractInputs,
    cast_inputs,
    cast_present,
    make_inputs,
    new_graph,
    set_outputs,
)
from model_export.exact_attention import VALUE_BITS, attend_exactly, round_to_bits
from model_export.plain_attention import Heads, attend_plainly
from relevance.artifact import GraphInfo

EMBEDDING = "bert.embeddings.word_embeddings.weight"
LABEL_HEAD = "label_head.weight"
COMPARISON, LABEL_COMPARISON, DOCUMENT_MARK = "comparison.weight", "label_comparison.weight", "document_mark"

# Left in float32 by quantisation. The head's transform runs on N rows only, so it costs nothing, and it starts
# training as the identity: one large entry a column, beside which int8 rounds what was learned to zero.
KEEP = frozenset({LABEL_HEAD, "cls.predictions.transform.dense.weight", COMPARISON, LABEL_COMPARISON})

# exp(-60) = 9e-27 is nothing beside 1, and still a normal float32. A larger bias gives masked slots denormal
# probabilities, and arithmetic on those makes a 256-token pack 1.5 times as slow.
MASKED_BIAS = -60.0


def bert_graph_info(model: BertLMHeadModel, dtype: str) -> GraphInfo:
    """What the manifest says of the graph; `dtype` is that of KV and bias."""
    config = model.config
    return GraphInfo.model_validate(
        {
            "architecture": "bert",
            "num_encoder_layers": getattr(config, "num_encoder_layers", 0),
            "num_layers": config.num_hidden_layers + bool(getattr(config, "num_encoder_layers", 0)),
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


def build_bert_graph(
    model: BertLMHeadModel,
    label_token_ids: tuple[int, ...],
    dtype: str = "float32",
    *,
    form: AttentionForm = "operator",
    kv_dtype: str | None = None,
) -> ir.Model:
    """The graph of `model`, label head cut to `label_token_ids`; the form "exact" in float32 only.

    KV and bias are of `kv_dtype`, unless given of the same type as weights and states.
    """
    info = bert_graph_info(model, kv_dtype or dtype)
    inputs = make_inputs(info, form)
    graph = new_graph(inputs, form, "bert_decoder")
    builder = GraphBuilder(graph)
    decoder = _BertDecoder(model, builder, dtype, form)
    hidden, present = decoder.layers(cast_inputs(builder, inputs, dtype))
    present = cast_present(builder, present, dtype, info)
    set_outputs(graph, info, decoder.heads(hidden, inputs.vocab_rows, label_token_ids), present)
    for node in graph:
        node.metadata_props.clear()  # the builder's debugging notes
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="model_export")


class _BertDecoder:
    """Emits the nodes of one checkpoint into one builder."""

    def __init__(self, model: BertLMHeadModel, builder: GraphBuilder, dtype: str, form: AttentionForm) -> None:
        self._config = model.config
        self._state = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
        self._builder = builder
        self._dtype = dtype
        self._form = form
        self._op = builder.op
        self._compared: ir.Value | None = None

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
        weight = np.concatenate([self._state[f"{name}.weight"] for name in names])
        bias = np.concatenate([self._state[f"{name}.bias"] for name in names])
        fused = "+".join(names)
        product = self._op.MatMul(hidden, self._weight(f"{fused}.weight", weight.T))
        return self._op.Add(product, self._weight(f"{fused}.bias", bias))

    def _unfused(self, hidden: ir.Value) -> ir.Value:
        """`hidden` with a length shape inference does not know: see the module docstring."""
        return self._op.Reshape(hidden, [0, -1, self._config.hidden_size])

    def layers(self, inputs: ContractInputs) -> tuple[ir.Value, list[tuple[ir.Value, ir.Value]]]:
        """Last states [1, N, H], and present (key, value) of every slot of the contract."""
        config = self._config
        num_encoder_layers = getattr(config, "num_encoder_layers", 0)
        hidden = joint = self._embed(inputs)
        present: list[tuple[ir.Value, ir.Value]] = []
        for layer in range(config.num_hidden_layers):
            if num_encoder_layers and layer == num_encoder_layers:
                states = self._by_head(hidden)
                encoded = self._op.Concat(inputs.past[layer][0], states, axis=2)
                present.append((encoded, self._op.Identity(encoded)))
                hidden = self._joint_input(joint, encoded, inputs)
            elif num_encoder_layers and layer == config.joint_from:
                joint = hidden
            is_lower = layer < num_encoder_layers and inputs.lower_bias is not None
            bias = inputs.lower_bias if is_lower else inputs.attention_bias
            asked = inputs.output_positions if layer == config.num_hidden_layers - 1 else None
            hidden, key_value = self._layer(hidden, layer, bias, inputs.past[len(present)], asked)
            present.append(key_value)
        return hidden, present

    def _embed(self, inputs: ContractInputs) -> ir.Value:
        """Token plus position embeddings, normalised; every token is of type 0. [1, S, H]."""
        positions = self._state["bert.embeddings.position_embeddings.weight"]
        token_type = self._state["bert.embeddings.token_type_embeddings.weight"][0]
        tokens = self._op.Gather(self._weight(EMBEDDING, self._state[EMBEDDING]), inputs.input_ids)
        placed = self._op.Gather(self._weight("positions.weight", positions + token_type), inputs.position_ids)
        return self._norm(self._op.Add(self._unfused(tokens), placed), "bert.embeddings.LayerNorm")

    def _layer(
        self, hidden: ir.Value, layer: int, bias: ir.Value, past: tuple[ir.Value, ir.Value], asked: ir.Value | None
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """One transformer layer: states [1, S, H], or [1, N, H] of the positions `asked`; present (key, value)."""
        op, name = self._op, f"bert.encoder.layer.{layer}"
        query_name, key_name, value_name = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        read = hidden
        if asked is not None:
            key, value = op.Split(self._linear(hidden, key_name, value_name), axis=-1, num_outputs=2, _outputs=2)
            read = op.Gather(hidden, asked, axis=1)
            bias = op.Gather(bias, asked, axis=2)
            query = self._linear(read, query_name)
        else:
            fused = self._linear(hidden, query_name, key_name, value_name)
            query, key, value = op.Split(fused, axis=-1, num_outputs=3, _outputs=3)
        attend = self._attend if self._form == "operator" else self._attend_spelt
        attended, present = attend(query, key, value, bias, past)
        attended = op.Add(self._linear(self._unfused(attended), f"{name}.attention.output.dense"), read)
        attended = self._norm(attended, f"{name}.attention.output.LayerNorm")
        inner = op.Gelu(self._linear(attended, f"{name}.intermediate.dense"))
        output = self._norm(op.Add(self._linear(inner, f"{name}.output.dense"), attended), f"{name}.output.LayerNorm")
        return output, present

    def _attend(
        self, query: ir.Value, key: ir.Value, value: ir.Value, bias: ir.Value, past: tuple[ir.Value, ir.Value]
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """What [1, S, H] queries read of keys and values [1, S, H] behind the past; present (key, value)."""
        heads = self._config.num_attention_heads
        attended, present_key, present_value = self._op.Attention(
            query, key, value, bias, *past, q_num_heads=heads, kv_num_heads=heads, _outputs=3
        )
        return attended, (present_key, present_value)

    def _attend_spelt(
        self, query: ir.Value, key: ir.Value, value: ir.Value, bias: ir.Value, past: tuple[ir.Value, ir.Value]
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """The same in small operators, with exact sums or plainly."""
        num, size = self._config.num_attention_heads, self._config.hidden_size // self._config.num_attention_heads
        query = self._by_head(query)
        key = self._op.Concat(past[0], self._by_head(key), axis=2)
        value = self._op.Concat(past[1], self._by_head(value), axis=2)
        states, heads, scale = (query, key, value), Heads(num, num, size), self._scalar("attention.scale", size**-0.5)
        if self._form == "plain":
            return attend_plainly(self._builder, states, bias, scale, heads), (key, value)
        return attend_exactly(self._builder, states, bias, scale, heads), (key, value)

    def _joint_input(self, hidden: ir.Value, encoded: ir.Value, inputs: ContractInputs) -> ir.Value:
        """What the joint layers of `modeling.late_bert` read: states + mark for document tokens + W f for readers."""
        op, dtype = self._op, FLOATS[self._dtype]
        compared_tokens = op.Cast(inputs.compared_tokens, to=dtype)  # [N, S]
        self._compared = self._compare(encoded, compared_tokens, inputs)
        is_document = op.ReduceSum(compared_tokens, [0], keepdims=0)  # a token belongs to one document at most
        mark = op.Mul(op.Unsqueeze(is_document, [1]), self._weight(DOCUMENT_MARK, self._state[DOCUMENT_MARK]))
        # One row of ones and zeros a token, not ScatterND: its CPU kernel knows no float16.
        tokens = op.Range(self._index(0), op.Squeeze(op.Shape(inputs.input_ids, start=1, end=2), [0]), self._index(1))
        is_reader = op.Equal(op.Unsqueeze(tokens, [1]), op.Unsqueeze(inputs.output_positions, [0]))
        read = op.MatMul(self._compared, self._weight(COMPARISON, self._state[COMPARISON].T))
        added = op.Add(mark, op.MatMul(op.Cast(is_reader, to=dtype), read))
        return op.Add(hidden, op.Unsqueeze(added, [0]))

    def _compare(self, encoded: ir.Value, compared_tokens: ir.Value, inputs: ContractInputs) -> ir.Value:
        """f [N, H] of `modeling.late_bert`, from the encoder's states [1, heads, P + S, H / heads].

        A reader's query is what it sees of the past, its document the tokens `compared_tokens` names. Where there is
        no query (a prefix being prefilled) the sums, and so f, are zero.
        """
        op = self._op
        states = op.Reshape(op.Transpose(encoded, perm=[0, 2, 1, 3]), [-1, self._config.hidden_size])
        if self._form == "exact":
            states = round_to_bits(self._builder, states, "comparison.states", VALUE_BITS)
        num_past = op.Shape(inputs.past[0][0], start=2, end=3)
        past, new = op.Slice(states, [0], num_past, [0]), op.Slice(states, num_past, [2**31], [0])
        bias = op.Gather(op.Squeeze(inputs.attention_bias, [0, 1]), inputs.output_positions, axis=0)
        seen = op.Greater(op.Slice(bias, [0], num_past, [1]), self._scalar("comparison.hidden", MASKED_BIAS / 2))
        query = op.MatMul(op.Cast(seen, to=FLOATS[self._dtype]), past)
        product = op.Mul(self._unit(query), self._unit(op.MatMul(compared_tokens, new)))
        return op.Mul(product, self._scalar("comparison.size", float(self._config.hidden_size)))

    def _index(self, number: int) -> ir.Value:
        return self._op.Constant(value_int=number)

    def _unit(self, rows: ir.Value) -> ir.Value:
        """Rows [N, H] of length 1; a row of zeros stays."""
        length = self._op.ReduceL2(rows, [-1], keepdims=1)
        return self._op.Div(rows, self._op.Max(length, self._scalar("comparison.least", 1e-6)))

    def _by_head(self, projected: ir.Value) -> ir.Value:
        """[1, S, H] to [1, heads, S, H / heads]."""
        heads = self._config.num_attention_heads
        split = self._op.Reshape(projected, [0, -1, heads, self._config.hidden_size // heads])
        return self._op.Transpose(split, perm=[0, 2, 1, 3])

    def _scalar(self, name: str, number: float) -> ir.Value:
        return self._weight(name, np.asarray(number, dtype=np.float32))

    def heads(
        self, hidden: ir.Value, vocab_rows: ir.Value, label_token_ids: tuple[int, ...]
    ) -> tuple[ir.Value, ir.Value]:
        """Label logits [N, K] in float32, and vocabulary logits [M, V] of the rows asked for."""
        op, transform = self._op, "cls.predictions.transform"
        states = op.Reshape(hidden, [-1, self._config.hidden_size])
        hidden = self._norm(op.Gelu(self._linear(states, f"{transform}.dense")), f"{transform}.LayerNorm")
        labels = list(label_token_ids)
        bias = self._state["cls.predictions.bias"]
        if self._compared is not None:
            label_logits = self._late_label_logits(states, self._compared)
        else:
            label_weight = self._weight(LABEL_HEAD, self._state[EMBEDDING][labels].T)
            label_logits = op.Add(op.MatMul(hidden, label_weight), self._weight("label_head.bias", bias[labels]))
        embedding = self._weight(EMBEDDING, self._state[EMBEDDING])
        rows = op.Gather(hidden, vocab_rows, axis=0)
        vocab_logits = op.Add(op.MatMul(rows, op.Transpose(embedding, perm=[1, 0])), self._weight("vocab.bias", bias))
        if self._dtype != "float32":
            label_logits = op.Cast(label_logits, to=FLOATS["float32"])
            vocab_logits = op.Cast(vocab_logits, to=FLOATS["float32"])
        return label_logits, vocab_logits

    def _late_label_logits(self, states: ir.Value, compared: ir.Value) -> ir.Value:
        """G h + A f + b of `modeling.late_bert`, [N, K], from last states and comparisons [N, H]."""
        op, straight = self._op, "label_comparison"
        found = op.MatMul(states, self._weight(LABEL_HEAD, self._state[LABEL_HEAD].T))
        from_comparison = op.MatMul(compared, self._weight(LABEL_COMPARISON, self._state[LABEL_COMPARISON].T))
        bias = self._weight(f"{straight}.bias", self._state[f"{straight}.bias"])
        return op.Add(op.Add(found, from_comparison), bias)
