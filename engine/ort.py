"""ONNX Runtime behind the engine contract.

One session holds the weights once; prefixes, documents and answers are all rows of it. A scoring run leaves
`vocab_rows` at its default, no rows, so it does not pay for the vocabulary head. (`RunOptions`'s
`only_execute_path_to_fetches` would skip it too, but ONNX Runtime 1.32 ignores that option.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.answer_batch import open_answer_batch
from engine.answer_row import Past, build_answer_row, pick_wanted, plan_past
from engine.base import AnswerWork, DocumentWork, PrefixKV, PromptKV
from engine.devices import CPU_ONLY, Provider
from engine.packing import NUM_NULL_SLOTS, Row, Segment, build_row
from engine.session import GraphSession
from relevance.artifact import Artifact


class OrtEngine:
    """An artifact loaded into ONNX Runtime, its KV in this process's memory.

    One row per call; the caller forms the packs.
    Not thread-safe: one thread drives it.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        num_threads: int | None = None,
        allow_spinning: bool = False,
        providers: Sequence[Provider] = CPU_ONLY,
        session: GraphSession | None = None,
    ) -> None:
        """Load the graph, as `GraphSession` does, which says what may be wrong; or use `session`, which has."""
        self._session = session or GraphSession(
            artifact, num_threads=num_threads, allow_spinning=allow_spinning, providers=providers
        )
        self._graph = artifact.manifest.graph
        self._attention = artifact.manifest.spec.attention
        self._num_suffix = len(artifact.tokenizer.encode_literal(artifact.manifest.spec.template.suffix))
        self._past_names, self._present_names = self._session.past_names, self._session.present_names
        self._null_past = self._session.null_past
        self._batch = open_answer_batch(artifact, num_threads, allow_spinning) if session is None else None

    @property
    def num_row_tokens(self) -> int:
        """Tokens of all rows so far."""
        return self._session.num_row_tokens

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """KV of each prefix, all computed in one row."""
        segments = [Segment(ids, NUM_NULL_SLOTS, 0) for ids in prefixes]
        present = self._session.run(self._present_names, self._row(segments, NUM_NULL_SLOTS), self._null_past)
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
        (logits,) = self._session.run(["label_logits"], row, past)
        return np.asarray(logits, dtype=np.float32)

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        """The same, and the KV of those that ask for it, as views: `PromptKV.copy` keeps one without the others."""
        row, past, num_past = self._document_row(documents)
        logits, *present = self._session.run(["label_logits", *self._present_names], row, past)
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

    def extend_answers(self, answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        """Next-token logits of N answers, those each wants; each takes up the KV of its new tokens.

        They are rows of a batch where the artifact has a graph for that, else all in one row of its only graph.
        """
        if self._batch is not None:
            return self._batch.extend(answers)
        past = plan_past(answers)
        row = build_answer_row(answers, past, self._attention, self._graph.masked_bias)
        feed = {**self._join_blocks(past), "vocab_rows": np.arange(len(answers), dtype=np.int64)}
        logits, *present = self._session.run(["vocab_logits", *self._present_names], row, feed)
        end = past.num_slots
        for work in answers:
            start, end = end, end + len(work.ids)
            work.answer.append(present, start, end)
        return pick_wanted(np.asarray(logits, dtype=np.float32), answers)

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
            return dict(zip(self._past_names, map(np.asarray, interleaved[0]), strict=True))
        joined: dict[str, NDArray[np.generic]] = {}
        for name, *parts in zip(self._past_names, *interleaved, strict=True):
            tails = [part[:, :, NUM_NULL_SLOTS:] for part in parts[1:]]
            joined[name] = np.concatenate([np.asarray(parts[0]), *tails], axis=2)
        return joined

    def _row(self, segments: Sequence[Segment], num_past: int) -> Row:
        return build_row(segments, num_past, self._attention, self._graph.masked_bias)

    def close(self) -> None:
        """Free the sessions."""
        if self._batch is not None:
            self._batch.close()
        self._session.close()
