"""Qwen3 of any size as an ONNX graph under the engine contract, emitted op by op from the checkpoint's weights.

In one of three forms:

    operator   `Attention` and `RMSNormalization` of opset 23, for CUDA: Attention takes the bias that lets many
               documents lie in one row, a past, shared heads, and float16 or bfloat16
    joined     the same for processors, with `RotaryEmbedding`: heads stay side by side, as the projections give them
               and o takes them, so nothing is split or transposed outside of these operators
    plain      only operators that TensorRT's parser has long known (opset 20); TensorRT does the fusing

Not `GroupQueryAttention`, the fused operator that exporters use: on a processor it takes three times as long as
Attention under a bias (docs/log.md), and CUDA's kernel refused a bias until lately and now computes it unfused.

In all of them the last layer goes on behind its keys and values with `output_positions` only, as in the other graphs.
Norms are computed in float32 whatever the type of the states: a square overflows float16 from 256 on. Keys and values
leave as the manifest's `kv_dtype`.

    h  <- h + o(attention(rope(norm(q h')), rope(norm(k h')), v h'))      h' = norm(h)
    h  <- h + down(silu(gate h') * up h')

Shapes: S tokens in one row, T = P + S slots, N output positions, H hidden, D head size.
"""

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript import GraphBuilder
from transformers import PreTrainedModel

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
from model_export.errors import ExportError
from model_export.plain_attention import Heads, attend_plainly
from relevance.artifact import GraphInfo

EMBEDDING = "model.embed_tokens.weight"
LABEL_HEAD = "label_head.weight"
MASKED_BIAS = -60.0
"""See `bert_graph`."""
NUMPY_TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def qwen_graph_info(model: PreTrainedModel, dtype: str) -> GraphInfo:
    """What the manifest says of the graph; `dtype` is that of weights, KV and bias."""
    config = model.config
    return GraphInfo.model_validate(
        {
            "architecture": config.model_type,
            "num_layers": config.num_hidden_layers,
            "num_kv_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "hidden_size": config.hidden_size,
            "vocab_size": config.vocab_size,
            "max_positions": config.max_position_embeddings,
            "kv_dtype": dtype,
            "bias_dtype": dtype,
            "masked_bias": MASKED_BIAS,
        }
    )


def build_qwen_graph(
    model: PreTrainedModel, info: GraphInfo, label_token_ids: tuple[int, ...], dtype: str, form: AttentionForm
) -> ir.Model:
    """The graph of `model` in `dtype`, label head cut to `label_token_ids`; any `form` but "exact".

    Raises:
        ExportError: a rotary embedding or a layer that this graph has no form for.
    """
    config = model.config
    if config.rope_parameters["rope_type"] != "default" or config.attention_bias:
        raise ExportError("the graph knows Qwen3's default rotary embedding and no bias in attention")
    inputs = make_inputs(info, form)
    graph = new_graph(inputs, form, "qwen_decoder")
    builder = GraphBuilder(graph)
    decoder = _Decoder(model, builder, dtype, form)
    hidden, present = decoder.layers(cast_inputs(builder, inputs, dtype))
    present = cast_present(builder, present, dtype, info)
    set_outputs(graph, info, decoder.heads(hidden, inputs.vocab_rows, label_token_ids), present)
    for node in graph:
        node.metadata_props.clear()  # the builder's debugging notes
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="model_export")


class _Decoder:
    """Emits the nodes of one checkpoint into one builder."""

    def __init__(self, model: PreTrainedModel, builder: GraphBuilder, dtype: str, form: AttentionForm) -> None:
        self._config = model.config
        self._state = model.state_dict()
        self._builder = builder
        self._op = builder.op
        self._form = form
        self._is_joined = form == "joined"
        self._numpy_type = NUMPY_TYPES[dtype]
        self._type = FLOATS[dtype]
        self._is_float32 = dtype == "float32"
        config = model.config
        self._heads = Heads(config.num_attention_heads, config.num_key_value_heads, config.head_dim)

    def _constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        existing: ir.Value | None = self._builder.graph.initializers.get(name)
        if existing is not None:
            return existing
        return self._builder.initializer(ir.tensor(np.ascontiguousarray(array), name=name), qualify=False)

    def _weight(self, name: str, *, transposed: bool = False) -> ir.Value:
        array = self._state[name].detach().float().numpy()
        return self._constant(name, (array.T if transposed else array).astype(self._numpy_type))

    def _linear(self, hidden: ir.Value, name: str) -> ir.Value:
        return self._op.MatMul(hidden, self._weight(f"{name}.weight", transposed=True))

    def _norm(self, hidden: ir.Value, name: str) -> ir.Value:
        op, epsilon = self._op, self._config.rms_norm_eps
        if self._form != "plain":
            return op.RMSNormalization(hidden, self._weight(f"{name}.weight"), axis=-1, epsilon=epsilon, stash_type=1)
        exact = hidden if self._is_float32 else op.Cast(hidden, to=FLOATS["float32"])
        mean = op.ReduceMean(op.Mul(exact, exact), [-1], keepdims=1)
        length = op.Sqrt(op.Add(mean, self._constant("norm.epsilon", np.array(epsilon, np.float32))))
        scaled = op.Div(exact, length)
        scaled = scaled if self._is_float32 else op.Cast(scaled, to=self._type)
        return op.Mul(scaled, self._weight(f"{name}.weight"))

    def layers(self, inputs: ContractInputs) -> tuple[ir.Value, list[tuple[ir.Value, ir.Value]]]:
        """Last states [1, N, H] normalised, and present (key, value) of every layer, of the states' type."""
        hidden = self._op.Gather(self._weight(EMBEDDING), inputs.input_ids)
        angles = self._angles(inputs.position_ids)
        last = self._config.num_hidden_layers - 1
        present = []
        for layer in range(self._config.num_hidden_layers):
            asked = inputs.output_positions if layer == last else None
            hidden, key_value = self._layer(hidden, layer, (inputs.attention_bias, angles), inputs.past[layer], asked)
            present.append(key_value)
        return self._norm(hidden, "model.norm"), present

    def _angles(self, position_ids: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Cosines and sines of every token's rotation, computed in float32: [1, 1, S, D], joined [1, S, D / 2]."""
        op, size = self._op, self._heads.size
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        frequencies = 1.0 / (np.float32(self._config.rope_parameters["rope_theta"]) ** exponents)
        if not self._is_joined:
            frequencies = np.concatenate([frequencies, frequencies])
        positions = op.Cast(op.Unsqueeze(position_ids, [2] if self._is_joined else [1, 3]), to=FLOATS["float32"])
        angles = op.Mul(positions, self._constant("rope.frequencies", frequencies.astype(np.float32)))
        cosine, sine = op.Cos(angles), op.Sin(angles)
        return (cosine, sine) if self._is_float32 else (op.Cast(cosine, to=self._type), op.Cast(sine, to=self._type))

    def _rotate(self, states: ir.Value, angles: tuple[ir.Value, ir.Value], num_heads: int) -> ir.Value:
        """[1, heads, S, D] (joined [1, S, heads * D]) turned by `angles`."""
        op, half = self._op, self._heads.size // 2
        if self._is_joined:
            return op.RotaryEmbedding(states, *angles, num_heads=num_heads)
        first, second = op.Slice(states, [0], [half], [3]), op.Slice(states, [half], [2 * half], [3])
        swapped = op.Concat(op.Neg(second), first, axis=3)
        return op.Add(op.Mul(states, angles[0]), op.Mul(swapped, angles[1]))

    def _by_head(self, projected: ir.Value, num_heads: int, norm: str | None = None) -> ir.Value:
        """[1, S, heads * D] to [1, heads, S, D] unless joined, each head normalised by `norm`."""
        if self._is_joined and norm is None:
            return projected
        split = self._op.Reshape(projected, [0, -1, num_heads, self._heads.size])
        if norm is not None:
            split = self._norm(split, norm)
        if self._is_joined:
            return self._op.Reshape(split, [0, -1, num_heads * self._heads.size])
        return self._op.Transpose(split, perm=[0, 2, 1, 3])

    def _layer(
        self,
        hidden: ir.Value,
        layer: int,
        row: tuple[ir.Value, tuple[ir.Value, ir.Value]],
        past: tuple[ir.Value, ir.Value],
        asked: ir.Value | None,
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """One transformer layer: states [1, S, H], or [1, N, H] of the positions `asked`; present (key, value).

        `row` is the bias [1, 1, S, T] and the angles of the row's tokens.
        """
        op, name = self._op, f"model.layers.{layer}"
        (bias, angles), heads = row, self._heads
        normed = self._norm(hidden, f"{name}.input_layernorm")
        key = self._by_head(self._linear(normed, f"{name}.self_attn.k_proj"), heads.num_kv, f"{name}.self_attn.k_norm")
        value = self._by_head(self._linear(normed, f"{name}.self_attn.v_proj"), heads.num_kv)
        key, query_angles = self._rotate(key, angles, heads.num_kv), angles
        if asked is not None:
            hidden, normed = op.Gather(hidden, asked, axis=1), op.Gather(normed, asked, axis=1)
            bias = op.Gather(bias, asked, axis=2)
            axis = 1 if self._is_joined else 2
            query_angles = (op.Gather(angles[0], asked, axis=axis), op.Gather(angles[1], asked, axis=axis))
        query = self._by_head(self._linear(normed, f"{name}.self_attn.q_proj"), heads.num, f"{name}.self_attn.q_norm")
        query = self._rotate(query, query_angles, heads.num)
        attended, present = self._attend((query, key, value), bias, past)
        hidden = op.Add(self._linear(attended, f"{name}.self_attn.o_proj"), hidden)
        normed = self._norm(hidden, f"{name}.post_attention_layernorm")
        gate = self._linear(normed, f"{name}.mlp.gate_proj")
        inner = op.Mul(op.Mul(gate, op.Sigmoid(gate)), self._linear(normed, f"{name}.mlp.up_proj"))
        return op.Add(self._linear(inner, f"{name}.mlp.down_proj"), hidden), present

    def _attend(
        self, states: tuple[ir.Value, ir.Value, ir.Value], bias: ir.Value, past: tuple[ir.Value, ir.Value]
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """What queries read of keys and values (all as of `_by_head`) behind the past, [1, S, heads * D]; present."""
        op, heads = self._op, self._heads
        query, key, value = states
        if self._is_joined:
            counts = {"q_num_heads": heads.num, "kv_num_heads": heads.num_kv}
            attended, present_key, present_value = op.Attention(query, key, value, bias, *past, _outputs=3, **counts)
            return attended, (present_key, present_value)
        if self._form == "operator":
            attended, present_key, present_value = op.Attention(query, key, value, bias, *past, _outputs=3)
            joined = op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [0, -1, heads.num * heads.size])
            return joined, (present_key, present_value)
        key, value = op.Concat(past[0], key, axis=2), op.Concat(past[1], value, axis=2)
        scale = self._constant("attention.scale", np.array(heads.size**-0.5, self._numpy_type))
        return attend_plainly(self._builder, (query, key, value), bias, scale, heads), (key, value)

    def heads(
        self, hidden: ir.Value, vocab_rows: ir.Value, label_token_ids: tuple[int, ...]
    ) -> tuple[ir.Value, ir.Value]:
        """Label logits [N, K] and vocabulary logits [M, V], both float32."""
        op, float32 = self._op, FLOATS["float32"]
        tied = self._config.tie_word_embeddings
        labels = self._state[EMBEDDING if tied else "lm_head.weight"].detach()[list(label_token_ids)].float().numpy().T
        states = op.Reshape(hidden, [-1, self._config.hidden_size])
        exact = states if self._is_float32 else op.Cast(states, to=float32)
        label_logits = op.MatMul(exact, self._constant(LABEL_HEAD, labels))
        rows = op.Gather(states, vocab_rows, axis=0)
        # Where the checkpoint ties them, the head is the transposed token embedding, stored once.
        head = op.Transpose(self._weight(EMBEDDING), perm=[1, 0]) if tied else self._untied_head()
        vocab_logits = op.MatMul(rows, head)
        return label_logits, vocab_logits if self._is_float32 else op.Cast(vocab_logits, to=float32)

    def _untied_head(self) -> ir.Value:
        weight = self._state["lm_head.weight"].detach().float().numpy().T
        return self._constant("vocab_head.weight", weight.astype(self._numpy_type))
