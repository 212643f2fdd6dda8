"""The graph that answers grow by: the decoder of `bert_graph` with a batch axis, for B answers of one step.

A scoring row compares each token with everybody's past, to mask most of it, and copies that past in every layer. An
answer's step has few new tokens and a long past of its own. Here each answer is a row of the batch where tokens look at
one another: keys and values of its past are read where they lie, and only those of the new tokens come out. Everywhere
else the N new tokens of all answers lie in one row, so that nothing is computed for answers that have fewer than T.

    attention = (exp(s_past - peak) V_past + exp(s_new - peak) V_new) / sum of both weights

Under `late` attention an answer's tokens see the whole prompt in every layer, and nothing is compared: of the encoder
only the layers that the joint ones read from are computed.

Inputs:
    input_ids, position_ids          int64 [N]
    token_of_place                   int64 [B, T], which of the N stands there; any where none does, behind the row's
    place_of_token                   int64 [N], of the B * T places
    past_bias                        float [B, 1, 1, P], 0 where the answer may look
    new_bias                         float [1, 1, T, T], causal
    last_positions                   int64 [B], of the N tokens, each answer's last
    head_ids                         int64 [A], the tokens whose logits are wanted: an explanation's grammar allows few
    past_key_values.{slot}.key       float [B, num_kv_heads, P, head_dim]  and `.value`, for each slot an answer needs
Outputs:
    vocab_logits                     float32 [B, A]
    new.{slot}.key                   float [B, num_kv_heads, T, head_dim]  and `.value`

With exact sums the values of the past must be multiples of 2^-VALUE_BITS, as those that come out are; the graph's
metadata `value_bits` says so.
"""

import onnx_ir as ir
from onnxscript import GraphBuilder
from transformers import BertLMHeadModel

from model_export.bert_graph import EMBEDDING, _BertDecoder, bert_graph_info
from model_export.contract import FLOATS, IR_VERSION, MICROSOFT, OPSET, AttentionForm
from model_export.exact_attention import VALUE_BITS, WEIGHT_BITS, round_to_bits

KeyValue = tuple[ir.Value, ir.Value]


def answer_layers(model: BertLMHeadModel) -> list[tuple[int, int]]:
    """(layer, slot of the contract's KV) of the layers that answers need, in order."""
    config = model.config
    num_encoder_layers = getattr(config, "num_encoder_layers", 0)
    if not num_encoder_layers:
        return [(layer, layer) for layer in range(config.num_hidden_layers)]
    shared = [(layer, layer) for layer in range(config.joint_from)]
    return shared + [(layer, layer + 1) for layer in range(num_encoder_layers, config.num_hidden_layers)]


def build_answer_graph(model: BertLMHeadModel, dtype: str, form: AttentionForm) -> ir.Model:
    """The graph of `model`; weights, KV and biases of type `dtype`."""
    info, layers = bert_graph_info(model, dtype), answer_layers(model)
    int64, floats = ir.DataType.INT64, FLOATS[dtype]
    kv_shape = ["B", info.num_kv_heads, "P", info.head_dim]
    named = {
        "input_ids": ir.val("input_ids", int64, ["N"]),
        "position_ids": ir.val("position_ids", int64, ["N"]),
        "token_of_place": ir.val("token_of_place", int64, ["B", "T"]),
        "place_of_token": ir.val("place_of_token", int64, ["N"]),
        "past_bias": ir.val("past_bias", floats, ["B", 1, 1, "P"]),
        "new_bias": ir.val("new_bias", floats, [1, 1, "T", "T"]),
        "last_positions": ir.val("last_positions", int64, ["B"]),
        "head_ids": ir.val("head_ids", int64, ["A"]),
    }
    past = {
        slot: (
            ir.val(f"past_key_values.{slot}.key", floats, kv_shape),
            ir.val(f"past_key_values.{slot}.value", floats, kv_shape),
        )
        for _, slot in layers
    }
    inputs = [*named.values(), *(value for pair in past.values() for value in pair)]
    graph = ir.Graph(inputs, [], nodes=[], opset_imports={"": OPSET, MICROSOFT: 1}, name="answer_decoder")
    decoder = _AnswerDecoder(model, GraphBuilder(graph), dtype, form)
    logits, new = decoder.decode(named, layers, past)
    outputs: list[tuple[ir.Value, str, ir.DataType, list[str | int]]] = [
        (logits, "vocab_logits", ir.DataType.FLOAT, ["B", "A"])
    ]
    for slot, pair in new.items():
        for value, kind in zip(pair, ("key", "value"), strict=True):
            outputs.append((value, f"new.{slot}.{kind}", floats, ["B", info.num_kv_heads, "T", info.head_dim]))
    for value, name, kind_of, shape in outputs:
        value.name, value.type, value.shape = name, ir.TensorType(kind_of), ir.Shape(shape)
        graph.outputs.append(value)
    for node in graph:
        node.metadata_props.clear()
    made = ir.Model(graph, ir_version=IR_VERSION, producer_name="model_export")
    if form == "exact":
        made.metadata_props["value_bits"] = str(VALUE_BITS)
    return made


class _AnswerDecoder(_BertDecoder):
    """The same layers over B rows of up to T tokens; between attentions all N of them lie in one."""

    def decode(
        self, inputs: dict[str, ir.Value], layers: list[tuple[int, int]], past: dict[int, KeyValue]
    ) -> tuple[ir.Value, dict[int, KeyValue]]:
        """Logits [B, A] of `head_ids`, and the new (key, value) of each slot."""
        op, config = self._op, self._config
        heads = config.num_attention_heads
        size = config.hidden_size // heads
        self._token_of_place, self._place_of_token = inputs["token_of_place"], inputs["place_of_token"]
        self._split = op.Concat(op.Shape(self._token_of_place), [heads, size], axis=0)
        flat = {name: op.Reshape(inputs[name], [1, -1]) for name in ("input_ids", "position_ids")}
        positions = self._state["bert.embeddings.position_embeddings.weight"]
        token_type = self._state["bert.embeddings.token_type_embeddings.weight"][0]
        tokens = op.Gather(self._weight(EMBEDDING, self._state[EMBEDDING]), flat["input_ids"])
        placed = op.Gather(self._weight("positions.weight", positions + token_type), flat["position_ids"])
        hidden = self._norm(op.Add(self._unfused(tokens), placed), "bert.embeddings.LayerNorm")
        new: dict[int, KeyValue] = {}
        biases = inputs["past_bias"], inputs["new_bias"]
        for layer, slot in layers:
            hidden, new[slot] = self._answer_layer(hidden, layer, past[slot], biases)
        states = op.Reshape(op.Gather(hidden, inputs["last_positions"], axis=1), [-1, config.hidden_size])
        transform = "cls.predictions.transform"
        states = self._norm(op.Gelu(self._linear(states, f"{transform}.dense")), f"{transform}.LayerNorm")
        chosen = op.Gather(self._weight(EMBEDDING, self._state[EMBEDDING]), inputs["head_ids"])
        bias = op.Gather(self._weight("vocab.bias", self._state["cls.predictions.bias"]), inputs["head_ids"])
        logits = op.Add(op.MatMul(states, op.Transpose(chosen, perm=[1, 0])), bias)
        return (logits if self._dtype == "float32" else op.Cast(logits, to=FLOATS["float32"])), new

    def _answer_layer(
        self, hidden: ir.Value, layer: int, past: KeyValue, biases: tuple[ir.Value, ir.Value]
    ) -> tuple[ir.Value, KeyValue]:
        op, name = self._op, f"bert.encoder.layer.{layer}"
        fused = self._linear(hidden, *(f"{name}.attention.self.{part}" for part in ("query", "key", "value")))
        placed = op.Gather(fused, self._token_of_place, axis=1)  # [1, B, T, 3 H]
        query, key, value = (self._rows_by_head(one) for one in op.Split(placed, axis=-1, num_outputs=3, _outputs=3))
        if self._form == "exact":
            value = round_to_bits(self._builder, value, "attention.values", VALUE_BITS)
        attended = self._attend_apart(query, (key, value), past, biases)
        attended = op.Gather(attended, self._place_of_token, axis=1)
        attended = op.Add(self._linear(self._unfused(attended), f"{name}.attention.output.dense"), hidden)
        attended = self._norm(attended, f"{name}.attention.output.LayerNorm")
        inner = op.Gelu(self._linear(attended, f"{name}.intermediate.dense"))
        output = self._norm(op.Add(self._linear(inner, f"{name}.output.dense"), attended), f"{name}.output.LayerNorm")
        return output, (key, value)

    def _rows_by_head(self, projected: ir.Value) -> ir.Value:
        """[1, B, T, H] to [B, heads, T, H / heads]."""
        return self._op.Transpose(self._op.Reshape(projected, self._split), perm=[0, 2, 1, 3])

    def _attend_apart(
        self, query: ir.Value, new: KeyValue, past: KeyValue, biases: tuple[ir.Value, ir.Value]
    ) -> ir.Value:
        """What queries read of the past and of what is new, [1, B T, H]."""
        op, config = self._op, self._config
        size = config.hidden_size // config.num_attention_heads
        query = op.Mul(query, self._scalar("attention.scale", size**-0.5))
        scores = [
            op.Add(op.MatMul(query, op.Transpose(keys, perm=[0, 1, 3, 2])), bias)
            for keys, bias in zip((past[0], new[0]), biases, strict=True)
        ]
        peak = op.Max(*(op.ReduceMax(one, [-1], keepdims=1) for one in scores))
        weights = [op.Exp(op.Sub(one, peak)) for one in scores]
        if self._form == "exact":
            weights = [round_to_bits(self._builder, one, "attention.weights", WEIGHT_BITS) for one in weights]
        read = [op.MatMul(one, values) for one, values in zip(weights, (past[1], new[1]), strict=True)]
        total = op.Add(*(op.ReduceSum(one, [-1], keepdims=1) for one in weights))
        attended = op.Transpose(op.Div(op.Add(*read), total), perm=[0, 2, 1, 3])
        return op.Reshape(attended, [1, -1, config.hidden_size])
