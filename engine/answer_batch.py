"""Answers as rows of a batch: the past of each lies in its own row, and stays there from step to step.

    arena    keys and values [R, heads, P, head_dim] of up to R answers; spare slots are hidden by the bias

The arena is a copy of what the answers hold, kept because most answers of a step were in the one before: what a row has
of an answer is its prompt and all that it said, and a step writes its new tokens behind. An answer that comes, or comes
back, is copied into a row that no other answer of the step needs. Nothing is lost with a row: the answer holds its own.
"""

from collections.abc import Sequence
from weakref import ref

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.answer_row import first_position
from engine.base import AnswerKV, AnswerWork
from engine.packing import NUM_NULL_SLOTS
from relevance.artifact import Artifact
from relevance.attention import Attention
from relevance.errors import ArtifactError

SLOT_STEP = 64
"""Rows grow by so many slots, so that a few tokens more are no new arrays."""


def open_answer_batch(artifact: Artifact, num_threads: int | None, allow_spinning: bool) -> "AnswerBatch | None":
    """The graph of answers of an artifact, loaded, on the processor; None if it has none.

    Raises:
        ArtifactError: ONNX Runtime cannot load it.
    """
    path = artifact.answer_graph_path
    if path is None:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if allow_spinning else "0")
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises its own exceptions and RuntimeError alike
        raise ArtifactError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    return AnswerBatch(session, artifact.manifest.spec.attention, artifact.manifest.graph.masked_bias)


class AnswerBatch:
    """The answer graph and its arena. Not thread-safe: the thread that drives the engine owns it."""

    def __init__(self, session: onnxruntime.InferenceSession, attention: Attention, masked_bias: float) -> None:
        self._session = session
        self._attention, self._masked_bias = attention, masked_bias
        past = [node for node in session.get_inputs() if node.name.startswith("past_key_values.")]
        self._past_names = [node.name for node in past]
        self._new_names = [name.replace("past_key_values.", "new.") for name in self._past_names]
        self._slots = [int(name.split(".")[1]) for name in self._past_names[::2]]
        self._heads, self._size = past[0].shape[1], past[0].shape[3]
        self._dtype = np.float16 if past[0].type == "tensor(float16)" else np.float32
        bits = session.get_modelmeta().custom_metadata_map.get("value_bits")
        self._magic = None if bits is None else np.float32(1.5 * 2.0 ** (23 - int(bits)))
        self._owners: list[ref[AnswerKV] | None] = []
        self._lengths: list[int] = []
        self._arena: list[NDArray[np.generic]] = [self._empty(0, 0) for _ in self._past_names]

    def _empty(self, rows: int, slots: int) -> NDArray[np.generic]:
        return np.zeros((rows, self._heads, slots, self._size), dtype=self._dtype)

    def close(self) -> None:
        """Free session and arena; no call may follow."""
        del self._session, self._arena

    def extend(self, works: Sequence[AnswerWork]) -> NDArray[np.float32]:
        """Next-token logits [N, V] of N answers once each has grown by its ids."""
        rows = self._place(works)
        feed, lengths = self._feed(works, rows)
        logits, *new = self._session.run(["vocab_logits", *self._new_names], feed)
        for work, row, length in zip(works, rows, lengths, strict=True):
            start, end = self._lengths[row], self._lengths[row] + length
            for array, one in zip(self._arena, new, strict=True):
                array[row, :, start:end] = one[row, :, :length]
            self._lengths[row] = end
            work.answer.append([one[row : row + 1] for one in new], 0, length)
        return np.asarray(logits, dtype=np.float32)[rows]

    def _place(self, works: Sequence[AnswerWork]) -> list[int]:
        """The row of each answer, all of them below N; those that have none are copied into one."""
        needed = max(self._num_slots(work) + len(work.ids) for work in works)
        self._make_room(len(works), needed)
        row_of = {owner(): row for row, owner in enumerate(self._owners[: len(works)]) if owner is not None}
        rows = [self._row_if_current(work, row_of) for work in works]
        free = iter([row for row in range(len(works)) if row not in rows])
        placed = []
        for work, row in zip(works, rows, strict=True):
            if row is None:
                row = next(free)  # noqa: PLW2901
                self._fill(row, work.answer)
            placed.append(row)
        return placed

    def _row_if_current(self, work: AnswerWork, row_of: dict[AnswerKV | None, int]) -> int | None:
        row = row_of.get(work.answer)
        return row if row is not None and self._lengths[row] == self._num_slots(work) else None

    @staticmethod
    def _num_slots(work: AnswerWork) -> int:
        prompt = work.answer.prompt
        return prompt.prefix.num_tokens + prompt.num_document_tokens + work.answer.num_tokens

    def _make_room(self, num_rows: int, num_slots: int) -> None:
        rows, slots = len(self._owners), self._arena[0].shape[2]
        if num_rows <= rows and num_slots <= slots:
            return
        more_slots = max(slots, -(-num_slots // SLOT_STEP) * SLOT_STEP)
        more_rows = max(rows, num_rows)
        for index, old in enumerate(self._arena):
            grown = self._empty(more_rows, more_slots)
            grown[:rows, :, :slots] = old
            self._arena[index] = grown
        self._owners += [None] * (more_rows - rows)
        self._lengths += [0] * (more_rows - rows)

    def _fill(self, row: int, answer: AnswerKV) -> None:
        prompt = answer.prompt
        for index, array in enumerate(self._arena):
            slot, kind = self._slots[index // 2], index % 2
            prefix = (prompt.prefix.keys, prompt.prefix.values)[kind][slot][:, :, NUM_NULL_SLOTS:]
            parts = [prefix, (prompt.keys, prompt.values)[kind][slot][:, :, :]]
            if kind and self._magic is not None:
                parts = [np.asarray(part, np.float32) + self._magic - self._magic for part in parts]
            if answer.num_tokens:
                parts.append(answer.arrays[index][:, :, : answer.num_tokens])
            end = 0
            for part in parts:
                start, end = end, end + part.shape[2]
                array[row, :, start:end] = part[0]
        self._owners[row], self._lengths[row] = ref(answer), end

    def _feed(
        self, works: Sequence[AnswerWork], rows: Sequence[int]
    ) -> tuple[dict[str, NDArray[np.generic]], list[int]]:
        """The graph's inputs, and how many of the tokens of each answer are no padding."""
        num, slots = len(works), self._arena[0].shape[2]
        lengths = [len(work.ids) for work in works]
        longest = max(lengths)
        input_ids = np.zeros((num, longest), dtype=np.int64)
        position_ids = np.zeros((num, longest), dtype=np.int64)
        bias = np.full((num, 1, 1, slots), self._masked_bias, dtype=np.float32)
        last = np.zeros(num, dtype=np.int64)
        for work, row, length in zip(works, rows, lengths, strict=True):
            input_ids[row, :length] = work.ids
            position_ids[row, :length] = first_position(work, self._attention) + np.arange(length)
            bias[row, 0, 0, : self._lengths[row]] = 0.0
            last[row] = row * longest + length - 1
        causal = np.where(np.tri(longest, dtype=bool), 0.0, self._masked_bias)[None, None]
        feed = {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "past_bias": bias.astype(self._dtype, copy=False),
            "new_bias": causal.astype(self._dtype),
            "last_positions": last,
        }
        return feed | {name: array[:num] for name, array in zip(self._past_names, self._arena, strict=True)}, lengths
