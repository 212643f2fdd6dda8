"""Answers as rows of a batch: the past of each lies in its own row, and stays there from step to step.

    bank     keys and values [R, heads, P, head_dim] of up to R answers; spare slots are hidden by the bias

Rows are copies of what the answers hold, kept because the answers of a step mostly were in one step before: what a
row has of an answer is its prompt and all that it said, and a step writes its new tokens behind. A step has its rows
side by side in one bank, that with most of its answers; one that is elsewhere is copied into a row that no other
answer of the step needs. Where most rows are of answers under way that are not in this step, it begins a new bank.
So steps are quick when the same answers come together again, those of one room (`engine.base.room_for`): P is that of
the longest, and shorter ones are compared with as many slots. Nothing is lost with a row: the answer holds its own.
"""

from collections.abc import Sequence
from itertools import chain
from weakref import ref

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.answer_row import first_position
from engine.base import AnswerKV, AnswerWork, room_for
from engine.packing import NUM_NULL_SLOTS
from relevance.artifact import Artifact
from relevance.attention import Attention
from relevance.errors import ArtifactError

MAX_BANK_BYTES = 192 << 20
"""Of all banks: the least recently used give way, but for the one in use."""


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
    return AnswerBatch(session, artifact)


class Bank:
    """Rows of one length, and whose they are."""

    def __init__(self, num_arrays: int, shape: tuple[int, int, int], dtype: type[np.generic]) -> None:
        """`shape`: heads, slots of a row, size of a head; without rows yet."""
        self.room = shape[1]
        self.owners: list[ref[AnswerKV] | None] = []
        self.lengths: list[int] = []
        self.arrays: list[NDArray[np.generic]] = [np.zeros((0, *shape), dtype=dtype) for _ in range(num_arrays)]

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return sum(array.nbytes for array in self.arrays)

    def row_of(self, answer: AnswerKV) -> int | None:
        """Where the answer lies, up to what it said last; None if it does not."""
        for row, (owner, length) in enumerate(zip(self.owners, self.lengths, strict=True)):
            if owner is not None and owner() is answer and length == answer.num_slots:
                return row
        return None

    def num_displaced(self, works: Sequence[AnswerWork]) -> int:
        """Answers under way that would lose their row to `works`, which they are not part of."""
        members = {work.answer for work in works}
        living = [None if owner is None else owner() for owner in self.owners[: len(works)]]
        return sum(answer is not None and answer not in members for answer in living)

    def make_rows(self, number: int) -> None:
        """Have at least so many."""
        rows = len(self.owners)
        if number <= rows:
            return
        number = max(number, 2 * rows)
        for index, old in enumerate(self.arrays):
            grown = np.zeros((number, *old.shape[1:]), dtype=old.dtype)
            grown[:rows] = old
            self.arrays[index] = grown
        self.owners += [None] * (number - rows)
        self.lengths += [0] * (number - rows)


class AnswerBatch:
    """The answer graph and its banks. Not thread-safe: the thread that drives the engine owns it."""

    def __init__(self, session: onnxruntime.InferenceSession, artifact: Artifact) -> None:
        self._session = session
        graph = artifact.manifest.graph
        self._attention: Attention = artifact.manifest.spec.attention
        self._masked_bias, self._all_tokens = graph.masked_bias, np.arange(graph.vocab_size)
        past = [node for node in session.get_inputs() if node.name.startswith("past_key_values.")]
        self._past_names = [node.name for node in past]
        self._new_names = [name.replace("past_key_values.", "new.") for name in self._past_names]
        self._slots = [int(name.split(".")[1]) for name in self._past_names[::2]]
        self._heads, self._size = past[0].shape[1], past[0].shape[3]
        self._dtype = np.float16 if past[0].type == "tensor(float16)" else np.float32
        bits = session.get_modelmeta().custom_metadata_map.get("value_bits")
        self._magic = None if bits is None else np.float32(1.5 * 2.0 ** (23 - int(bits)))
        self.banks: list[Bank] = []
        """Rows of answers, to be read only; the most recently used last."""

    def close(self) -> None:
        """Free session and banks; no call may follow."""
        del self._session, self.banks

    def extend(self, works: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        """Next-token logits of N answers once each has grown by its ids, those each wants."""
        bank, rows = self._place(works)
        in_order = sorted(zip(rows, works, strict=True), key=lambda one: one[0])
        wanted = [self._all_tokens if work.wanted is None else work.wanted for work in works]
        head_ids = np.unique(np.concatenate(wanted))
        logits, *new = self._session.run(["vocab_logits", *self._new_names], self._feed(bank, in_order, head_ids))
        for row, work in in_order:
            start, length = bank.lengths[row], len(work.ids)
            for array, one in zip(bank.arrays, new, strict=True):
                array[row, :, start : start + length] = one[row, :, :length]
            bank.lengths[row] = start + length
            work.answer.append([one[row : row + 1] for one in new], 0, length)
        found = np.asarray(logits, dtype=np.float32)
        return [found[row, np.searchsorted(head_ids, ids)] for row, ids in zip(rows, wanted, strict=True)]

    def _place(self, works: Sequence[AnswerWork]) -> tuple[Bank, list[int]]:
        """A bank, and the row of each answer in it, all of them below N."""
        num = len(works)
        room = max(room_for(work.answer.num_slots + len(work.ids)) for work in works)
        found = [(bank, [bank.row_of(work.answer) for work in works]) for bank in self.banks if bank.room == room]
        best = max(found, key=lambda one: num - one[1].count(None), default=None)
        if best is None or 2 * best[0].num_displaced(works) > num:
            best = Bank(len(self._past_names), (self._heads, room, self._size), self._dtype), [None] * num
        bank, rows = best
        bank.make_rows(num)
        self.banks = [*(one for one in self.banks if one is not bank), bank]
        while len(self.banks) > 1 and sum(one.num_bytes for one in self.banks) > MAX_BANK_BYTES:
            del self.banks[0]
        kept = [row if row is not None and row < num else None for row in rows]
        free = iter([row for row in range(num) if row not in kept])
        placed = []
        for work, row in zip(works, kept, strict=True):
            if row is None:
                row = next(free)  # noqa: PLW2901
                self._fill(bank, row, work.answer)
            placed.append(row)
        return bank, placed

    def _fill(self, bank: Bank, row: int, answer: AnswerKV) -> None:
        prompt = answer.prompt
        for index, array in enumerate(bank.arrays):
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
        bank.owners[row], bank.lengths[row] = ref(answer), end

    def _feed(
        self, bank: Bank, in_order: Sequence[tuple[int, AnswerWork]], head_ids: NDArray[np.int64]
    ) -> dict[str, NDArray[np.generic]]:
        """The graph's inputs; `in_order` has an answer for each of the first rows."""
        num, lengths = len(in_order), np.array([len(work.ids) for _, work in in_order])
        longest, ends = int(lengths.max()), np.cumsum(lengths)
        place = np.arange(longest)
        is_taken = place < lengths[:, None]  # [B, T]
        first = [first_position(work, self._attention) for _, work in in_order]
        token_of_place = np.where(is_taken, (ends - lengths)[:, None] + place, 0)
        bias = np.where(np.arange(bank.room) < np.array(bank.lengths[:num])[:, None], 0.0, self._masked_bias)
        causal = np.where(np.tri(longest, dtype=bool), 0.0, self._masked_bias)
        feed = {
            "input_ids": np.fromiter(chain.from_iterable(work.ids for _, work in in_order), np.int64, int(ends[-1])),
            "position_ids": (np.array(first)[:, None] + place)[is_taken],
            "token_of_place": token_of_place,
            "place_of_token": np.flatnonzero(is_taken),
            "past_bias": bias[:, None, None].astype(self._dtype),
            "new_bias": causal[None, None].astype(self._dtype),
            "last_positions": ends - 1,
            "head_ids": head_ids,
        }
        return feed | {name: array[:num] for name, array in zip(self._past_names, bank.arrays, strict=True)}
