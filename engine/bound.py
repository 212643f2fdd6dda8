"""The engine whose KV stays where the graph runs: ONNX Runtime with bound inputs and outputs.

    prefill   one run per prefix: behind the null slot alone, `present` is the prefix's KV as a later run wants it, so
              it is kept as it came, on the device
    score     one run per distinct prefix of a pack: its KV is bound as it lies, and only the labels' logits come back

Nothing of a prefix crosses the bus, and nothing is copied on the device either. For a 0.6B Qwen3 a prefix of 200
tokens is 23 MB in float16, a millisecond of PCIe for every pack that `engine.ort` would feed it to. The price:
documents behind different prefixes are different runs, where `engine.ort` joins them into one row; joining would need a
copy on the device, for which ONNX Runtime's Python interface has no operation.

Explanations (`keep_documents`, `extend_answers`) work on KV in this process's memory, as in `engine.ort`: answers of
many lengths are joined for each step. Their rows have no fixed shapes or addresses, so there is nothing for a CUDA
graph to replay.
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.base import AnswerWork, DocumentWork, KVArray, PrefixKV, PromptKV
from engine.ort import OrtEngine
from engine.packing import NUM_NULL_SLOTS, Row, Segment, build_row
from engine.session import GraphSession
from relevance.artifact import Artifact


class DeviceArray:
    """One array of KV on a device; reading it leaves a copy in this process's memory, for the reads that follow."""

    __slots__ = ("_here", "nbytes", "value")

    def __init__(self, value: onnxruntime.OrtValue) -> None:
        self.value = value
        self.nbytes: int = value.tensor_size_in_bytes()
        self._here: NDArray[np.generic] | None = None

    def _read(self) -> NDArray[np.generic]:
        if self._here is None:
            self._here = self.value.numpy()
        return self._here

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[np.generic]:
        return self._read()[index]

    def __array__(self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        return np.array(self._read(), dtype=dtype or self._read().dtype, copy=copy)


class BoundEngine:
    """An artifact whose prefixes' KV stays on the device. Not thread-safe: one thread drives it."""

    def __init__(self, artifact: Artifact, session: GraphSession, device: str) -> None:
        """`device` is where the graph runs, in ONNX Runtime's words: `cuda`, or `cpu`."""
        self._session = session
        self._device = device
        self._host = OrtEngine(artifact, session=session)
        self._graph = artifact.manifest.graph
        self._attention = artifact.manifest.spec.attention
        self._num_suffix = len(artifact.tokenizer.encode_literal(artifact.manifest.spec.template.suffix))
        null = next(iter(session.null_past.values()))
        self._null = onnxruntime.OrtValue.ortvalue_from_numpy(null, device, 0)

    @property
    def num_row_tokens(self) -> int:
        """Tokens of all rows so far."""
        return self._session.num_row_tokens

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """KV of each prefix, each computed in a row of its own and left on the device."""
        return [self._prefill(ids) for ids in prefixes]

    def _prefill(self, ids: Sequence[int]) -> PrefixKV:
        row = self._row([Segment(ids, NUM_NULL_SLOTS, 0)], NUM_NULL_SLOTS)
        binding = self._bind(row, [self._null] * len(self._session.past_names))
        for name in self._session.present_names:
            binding.bind_output(name, self._device, 0)
        present = [DeviceArray(value) for value in self._run(binding, row)]
        return PrefixKV(len(ids), tuple(present[0::2]), tuple(present[1::2]))

    def score_documents(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        """Label logits [N, K] of N documents: one row for each distinct prefix."""
        behind: dict[int, list[int]] = {}
        for index, work in enumerate(documents):
            behind.setdefault(id(work.prefix), []).append(index)
        computed = [self._score([documents[index] for index in indices]) for indices in behind.values()]
        logits = np.empty((len(documents), computed[0].shape[1]), dtype=np.float32)
        for indices, rows in zip(behind.values(), computed, strict=True):
            logits[indices] = rows
        return logits

    def _score(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        """Label logits [N, K] of documents behind one prefix."""
        prefix = documents[0].prefix
        segments = [Segment(work.ids, NUM_NULL_SLOTS, prefix.num_tokens, self._num_suffix) for work in documents]
        row = self._row(segments, NUM_NULL_SLOTS + prefix.num_tokens)
        past = [_on_device(array) for pair in zip(prefix.keys, prefix.values, strict=True) for array in pair]
        binding = self._bind(row, past)
        binding.bind_output("label_logits", "cpu", 0)
        (logits,) = self._run(binding, row)
        return np.asarray(logits.numpy(), dtype=np.float32)

    def _row(self, segments: Sequence[Segment], num_past: int) -> Row:
        return build_row(segments, num_past, self._attention, self._graph.masked_bias)

    def _bind(self, row: Row, past: Sequence[onnxruntime.OrtValue]) -> onnxruntime.IOBinding:
        """A binding of the row and the past, without outputs."""
        binding = self._session.onnx.io_binding()
        for name, array in self._session.feed(row).items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name, value in zip(self._session.past_names, past, strict=True):
            binding.bind_ortvalue_input(name, value)
        return binding

    def _run(self, binding: onnxruntime.IOBinding, row: Row) -> list[onnxruntime.OrtValue]:
        """The bound outputs, in the order they were bound."""
        self._session.onnx.run_with_iobinding(binding)
        self._session.num_row_tokens += row.input_ids.size
        values: list[onnxruntime.OrtValue] = binding.get_outputs()
        return values

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        """As `engine.ort` does, in this process's memory."""
        return self._host.keep_documents(documents)

    def extend_answers(self, answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        """As `engine.ort` does, in this process's memory."""
        return self._host.extend_answers(answers)

    def close(self) -> None:
        """Free the session."""
        self._session.close()


def _on_device(array: KVArray) -> onnxruntime.OrtValue:
    if not isinstance(array, DeviceArray):
        raise TypeError("a prefix that another engine has computed")
    return array.value
