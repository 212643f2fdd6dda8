"""ONNX Runtime behind the engine contract.

One session holds the weights once; prefixes, documents and answers are all rows of it. A scoring run leaves
`vocab_rows` at its default, no rows, so it does not pay for the vocabulary head. (`RunOptions`'s
`only_execute_path_to_fetches` would skip it too, but ONNX Runtime 1.32 ignores that option.)
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.answer_row import Past, build_answer_row, plan_past
from engine.base import AnswerWork, DocumentWork, PrefixKV, PromptKV
from engine.packing import NUM_NULL_SLOTS, Row, Segment, build_row
from relevance.artifact import Artifact
from relevance.errors import ArtifactError

PROVIDERS = {"cpu": ("CPUExecutionProvider",), "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider")}
"""What the graph runs on: operators that the first provider does not have run on the last."""
_FLOATS: dict[str, type[np.generic]] = {"float32": np.float32, "float16": np.float16}


class OrtEngine:
    """An artifact loaded into ONNX Runtime. One row per call; the caller forms the packs.

    Not thread-safe: one thread drives it.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        num_threads: int | None = None,
        allow_spinning: bool = False,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        """Load the graph.

        Args:
            artifact: a verified artifact.
            num_threads: threads of one operator; None leaves it to ONNX Runtime (the physical cores).
            allow_spinning: let idle threads of one operator spin for the next. Saves a little on an idle machine, and
                costs a multiple when the event loop, or anything else, wants the cores.
            providers: execution providers in order of preference, as in PROVIDERS; all of them must be there.

        Raises:
            ArtifactError: ONNX Runtime cannot load the graph or lacks a provider, or the graph's inputs and outputs
                break the contract.
        """
        self.num_row_tokens = 0
        self._graph = artifact.manifest.graph
        self._attention = artifact.manifest.spec.attention
        self._num_suffix = len(artifact.tokenizer.encode_literal(artifact.manifest.spec.template.suffix))
        self._kv_type = _float_type(self._graph.kv_dtype)
        self._bias_type = _float_type(self._graph.bias_dtype)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if allow_spinning else "0")
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        if "CUDAExecutionProvider" in providers:
            onnxruntime.preload_dlls()  # of the NVIDIA packages, where they are installed beside it
        try:
            self._session = onnxruntime.InferenceSession(artifact.graph_path, options, providers=list(providers))
        except Exception as error:  # the library raises its own exceptions and RuntimeError alike
            raise ArtifactError(f"{artifact.graph_path}: ONNX Runtime cannot load it: {error}") from error
        # It falls back to the processor in silence, which is no speed that anybody asked for.
        missing = sorted(set(providers) - set(self._session.get_providers()))
        if missing:
            raise ArtifactError(f"ONNX Runtime cannot run on {', '.join(missing)} here")
        layers = range(self._graph.num_layers)
        self._past_names = [f"past_key_values.{i}.{kind}" for i in layers for kind in ("key", "value")]
        self._present_names = [f"present.{i}.{kind}" for i in layers for kind in ("key", "value")]
        self._check_contract(artifact)
        empty = np.zeros((1, self._graph.num_kv_heads, NUM_NULL_SLOTS, self._graph.head_dim), dtype=self._kv_type)
        self._null_past = dict.fromkeys(self._past_names, empty)

    def _check_contract(self, artifact: Artifact) -> None:
        inputs = {node.name for node in self._session.get_inputs()}
        outputs = {node.name for node in self._session.get_outputs()}
        wanted = {"input_ids", "position_ids", "attention_bias", "output_positions", *self._past_names}
        if self._graph.num_encoder_layers:
            wanted |= {"lower_bias", "compared_tokens"}
        if inputs != wanted:
            raise ArtifactError(f"{artifact.graph_path}: inputs differ from the contract: {sorted(inputs ^ wanted)}")
        missing = {"label_logits", "vocab_logits", *self._present_names} - outputs
        if missing:
            raise ArtifactError(f"{artifact.graph_path}: outputs missing: {sorted(missing)}")

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """KV of each prefix, all computed in one row."""
        segments = [Segment(ids, NUM_NULL_SLOTS, 0) for ids in prefixes]
        present = self._run(self._present_names, self._row(segments, NUM_NULL_SLOTS), self._null_past)
        ends = NUM_NULL_SLOTS + np.cumsum([len(ids) for ids in prefixes])
        return [self._cut(present, int(end) - len(ids), int(end)) for ids, end in zip(prefixes, ends, strict=True)]

    def _cut(self, present: Sequence[NDArray[np.generic]], start: int, end: int) -> PrefixKV:
        """A contiguous copy of slots [start, end) behind a null slot."""
        arrays = []
        for array in present:
            kept = np.zeros((*array.shape[:2], NUM_NULL_SLOTS + end - start, array.shape[3]), dtype=array.dtype)
            kept[:, :, NUM_NULL_SLOTS:] = array[:, :, start:end]
            arrays.append(kept)
        return PrefixKV(end - start, tuple(arrays[0::2]), tuple(arrays[1::2]))

    def score_documents(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        """Label logits [N, K] of N documents, all computed in one row."""
        row, past, _ = self._document_row(documents)
        (logits,) = self._run(["label_logits"], row, past)
        return np.asarray(logits, dtype=np.float32)

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        """The same, and the KV of those that ask for it, as views: `PromptKV.copy` keeps one without the others."""
        row, past, num_past = self._document_row(documents)
        logits, *present = self._run(["label_logits", *self._present_names], row, past)
        kept: list[PromptKV | None] = []
        end = num_past
        for work in documents:
            start, end = end, end + len(work.ids)
            arrays = [array[:, :, start:end] for array in present]
            kept.append(PromptKV(work.prefix, len(work.ids), arrays[0::2], arrays[1::2]) if work.keeps_kv else None)
        return np.asarray(logits, dtype=np.float32), kept

    def _document_row(self, documents: Sequence[DocumentWork]) -> tuple[Row, dict[str, NDArray[np.generic]], int]:
        """The row of a pack, its past, and how many slots that has."""
        prefixes = list({id(work.prefix): work.prefix for work in documents}.values())
        starts = dict(
            zip((id(p) for p in prefixes), np.cumsum([NUM_NULL_SLOTS, *(p.num_tokens for p in prefixes)]), strict=False)
        )
        segments = [
            Segment(work.ids, int(starts[id(work.prefix)]), work.prefix.num_tokens, self._num_suffix)
            for work in documents
        ]
        num_past = NUM_NULL_SLOTS + sum(prefix.num_tokens for prefix in prefixes)
        return self._row(segments, num_past), self._join(prefixes), num_past

    def extend_answers(self, answers: Sequence[AnswerWork]) -> NDArray[np.float32]:
        """Next-token logits [N, V] of N answers, all computed in one row; each takes up the KV of its new tokens."""
        past = plan_past(answers)
        row = build_answer_row(answers, past, self._attention, self._graph.masked_bias)
        feed = {**self._join_blocks(past), "vocab_rows": np.arange(len(answers), dtype=np.int64)}
        logits, *present = self._run(["vocab_logits", *self._present_names], row, feed)
        end = past.num_slots
        for work in answers:
            start, end = end, end + len(work.ids)
            work.answer.append(present, start, end)
        return np.asarray(logits, dtype=np.float32)

    def _join_blocks(self, past: Past) -> dict[str, NDArray[np.generic]]:
        """The past of a row of answers, behind one null slot."""
        null = next(iter(self._null_past.values()))
        joined: dict[str, NDArray[np.generic]] = {}
        for index, name in enumerate(self._past_names):
            parts = [block.arrays[index][:, :, block.offset : block.offset + block.length] for block in past.blocks]
            joined[name] = np.concatenate([null, *parts], axis=2)
        return joined

    def _join(self, prefixes: Sequence[PrefixKV]) -> dict[str, NDArray[np.generic]]:
        """The past of a pack: one prefix as it lies, several behind one null slot."""
        interleaved = [[kv for pair in zip(p.keys, p.values, strict=True) for kv in pair] for p in prefixes]
        if len(prefixes) == 1:
            return dict(zip(self._past_names, interleaved[0], strict=True))
        joined: dict[str, NDArray[np.generic]] = {}
        for name, *parts in zip(self._past_names, *interleaved, strict=True):
            tails = [part[:, :, NUM_NULL_SLOTS:] for part in parts[1:]]
            joined[name] = np.concatenate([parts[0], *tails], axis=2)
        return joined

    def _row(self, segments: Sequence[Segment], num_past: int) -> Row:
        return build_row(segments, num_past, self._attention, self._graph.masked_bias)

    def _run(self, outputs: list[str], row: Row, past: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        feed = {
            "input_ids": row.input_ids,
            "position_ids": row.position_ids,
            "attention_bias": row.attention_bias.astype(self._bias_type, copy=False),
            "output_positions": row.last_positions,
            **past,
        }
        if row.lower_bias is not None and row.compared_tokens is not None:
            feed["lower_bias"] = row.lower_bias.astype(self._bias_type, copy=False)
            feed["compared_tokens"] = row.compared_tokens
        values: list[NDArray[np.generic]] = self._session.run(outputs, feed)
        self.num_row_tokens += row.input_ids.size
        return values

    def close(self) -> None:
        """Free the session."""
        del self._session


def _float_type(name: str) -> type[np.generic]:
    if name not in _FLOATS:
        raise ArtifactError(f"graph.kv_dtype and graph.bias_dtype must be one of {sorted(_FLOATS)} here, got {name}")
    return _FLOATS[name]
