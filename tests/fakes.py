"""A clock, an engine and an artifact made of code: the service without a model.

FakeEngine satisfies `engine.base.Engine`. A pair's label logits are a hash of its token ids, so a test knows what
any pair must get, whatever it is computed with; so are the next-token logits of an answer. It can be told to fail and
to block.
"""

import json
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from engine.base import AnswerWork, DocumentWork, PrefixKV, PromptKV
from relevance.artifact import Agreement, Artifact, FileEntry, GoldenPair, GraphInfo, Manifest, ParityReport, Provenance
from relevance.grades import Grade, GradeScale
from relevance.pair import Pair
from relevance.prompt import PromptLimits, PromptTemplate
from relevance.scoring import FloatArray, grade_distribution
from relevance.spec import ScoringSpec
from relevance.tokenization import JsonTokenizer

GRADE_NAMES = ("irrelevant", "related", "highly relevant", "perfect")
MAX_TOKENS, MAX_QUERY_TOKENS, MAX_INSTRUCTION_TOKENS = 128, 32, 16
TEMPERATURE = 1.5
VOCAB_SIZE = 258


class FakeClock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ThreadDeath(BaseException):
    """Nothing that code is expected to handle."""


def fake_logits(prefix_ids: Sequence[int], document_ids: Sequence[int]) -> NDArray[np.float32]:
    """Label logits [K] of a pair: a function of its ids and of nothing else."""
    text = f"{list(prefix_ids)}|{list(document_ids)}"
    return np.array([zlib.crc32(f"{grade}{text}".encode()) % 1000 / 250 for grade in range(4)], dtype=np.float32)


def fake_vocabulary_logits(
    prefix_ids: Sequence[int], document_ids: Sequence[int], answer_ids: Sequence[int]
) -> NDArray[np.float32]:
    """Next-token logits [V] of an answer: a function of what it has seen and of nothing else."""
    seed = zlib.crc32(f"{list(prefix_ids)}|{list(document_ids)}|{list(answer_ids)}".encode())
    return np.random.default_rng(seed).random(VOCAB_SIZE, dtype=np.float32)


class FakeEngine:
    """An engine that records its calls, and fails or blocks on demand."""

    def __init__(self) -> None:
        self.prefills: list[list[tuple[int, ...]]] = []
        self.packs: list[list[tuple[int, ...]]] = []
        self.answers: list[list[tuple[int, ...]]] = []
        """The ids of each answer of each decode step."""
        self.num_row_tokens = 0
        self.padding = 0
        """Tokens of padding that each call computes."""
        self.pasts: list[int] = []
        """Tokens of the distinct prefixes behind each pack."""
        self.fail_on: Callable[[Sequence[int]], BaseException | None] = lambda _: None
        """Given the ids of each prefix or document, what to raise, if anything."""
        self.is_closed = False
        self.threads: set[str] = set()
        self.go_on = threading.Event()
        """For a `fail_on` that waits."""
        self._open = threading.Event()
        self._open.set()
        self._entered = threading.Semaphore(0)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Calls made inside wait until the end of it."""
        while self._entered.acquire(blocking=False):
            pass
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def wait_for_call(self) -> None:
        """Return once the engine has been called since `blocked` began."""
        assert self._entered.acquire(timeout=10), "the engine was not called"

    def forget(self) -> None:
        """Drop the record, for example that of the warm-up."""
        self.prefills.clear()
        self.packs.clear()
        self.answers.clear()
        self.pasts.clear()

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        self.prefills.append([tuple(ids) for ids in prefixes])
        self._enter(prefixes)
        return [PrefixKV(len(ids), (np.array(ids, dtype=np.int64),), ()) for ids in prefixes]

    def score_documents(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        self.packs.append([work.ids for work in documents])
        self.pasts.append(sum(prefix.num_tokens for prefix in {work.prefix for work in documents}))
        self._enter([work.ids for work in documents])
        return np.stack([fake_logits(work.prefix.keys[0].tolist(), work.ids) for work in documents])

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        ids = [np.array(work.ids, dtype=np.int64) for work in documents]
        kept = [
            PromptKV(work.prefix, len(work.ids), [own], []) if work.keeps_kv else None
            for work, own in zip(documents, ids, strict=True)
        ]
        return self.score_documents(documents), kept

    def extend_answers(self, answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        self.answers.append([tuple(work.ids) for work in answers])
        self._enter([work.ids for work in answers])
        rows = []
        for work in answers:
            present = np.array(work.ids, dtype=np.int64)[None, None, :, None]
            work.answer.append([present], 0, len(work.ids))
            prompt, said = work.answer.prompt, work.answer.arrays[0][0, 0, : work.answer.num_tokens, 0]
            rows.append(fake_vocabulary_logits(prompt.prefix.keys[0].tolist(), prompt.keys[0].tolist(), said.tolist()))
        return [row if work.wanted is None else row[work.wanted] for row, work in zip(rows, answers, strict=True)]

    def close(self) -> None:
        self.is_closed = True

    def _enter(self, sequences: Sequence[Sequence[int]]) -> None:
        self.num_row_tokens += sum(map(len, sequences)) + self.padding
        self.threads.add(threading.current_thread().name)
        self._entered.release()
        assert self._open.wait(timeout=10), "nobody let the engine go on"
        for ids in sequences:
            error = self.fail_on(ids)
            if error is not None:
                raise error


@cache
def byte_tokenizer() -> JsonTokenizer:
    """One token per byte, and two special tokens for the template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<sep>", "<grade>"])
    return JsonTokenizer(tokenizer.to_str())


def fake_spec(instruction: str | None = "{instruction}<sep>") -> ScoringSpec:
    """Four grades behind a byte-per-token template."""
    grades = [Grade(name=name, gain=gain, label=str(gain)) for gain, name in enumerate(GRADE_NAMES)]
    return ScoringSpec(
        template=PromptTemplate(
            name="bytes",
            prefix="",
            instruction=instruction,
            query="{query}<sep>",
            document="{document}<sep>",
            suffix="<grade>",
        ),
        scale=GradeScale(grades=tuple(grades)),
        limits=PromptLimits(
            max_tokens=MAX_TOKENS, max_query_tokens=MAX_QUERY_TOKENS, max_instruction_tokens=MAX_INSTRUCTION_TOKENS
        ),
        temperature=TEMPERATURE,
    )


def expected_distribution(pair: Pair, spec: ScoringSpec | None = None) -> FloatArray:
    """What a service over a FakeEngine must answer for `pair`, [K]."""
    encoder = (spec or fake_spec()).encoder(byte_tokenizer())
    prefix = encoder.encode_prefix(pair.query, pair.instruction)
    (document,) = encoder.encode_documents(prefix, [pair.document])
    return grade_distribution([fake_logits(prefix.ids, document.ids)], TEMPERATURE)[0]


def fake_artifact(spec: ScoringSpec | None = None) -> Artifact:
    """An artifact that no disk holds; its golden pair is what a FakeEngine computes."""
    spec = spec or fake_spec()
    golden = Pair("usb c cable", "USB-C to USB-C")
    manifest = Manifest(
        format_version=1,
        name="fake",
        precision="fp32",
        spec=spec,
        label_token_ids=spec.scale.resolve_label_token_ids(byte_tokenizer()),
        graph=GraphInfo(
            architecture="fake",
            num_layers=1,
            num_kv_heads=1,
            head_dim=1,
            hidden_size=1,
            vocab_size=VOCAB_SIZE,
            max_positions=512,
        ),
        files={"model.onnx": FileEntry(sha256="0" * 64, num_bytes=0)},
        provenance=Provenance(
            created="2026-01-01T00:00:00Z", checkpoint="none", checkpoint_sha256="", command="", versions={}
        ),
        parity=ParityReport(
            pairs="none",
            thresholds={},
            agreements=(
                Agreement(
                    compared="nothing", num_pairs=1, max_difference=0, mean_difference=0, grade_flips=0, kendall_tau=1
                ),
            ),
        ),
        golden_pairs=(
            GoldenPair(
                query=golden.query,
                document=golden.document,
                distribution=tuple(expected_distribution(golden, spec).tolist()),
            ),
        ),
    )
    digest = zlib.crc32(json.dumps(manifest.model_dump(mode="json")).encode())
    return Artifact(Path("nowhere"), manifest, f"{digest:064x}", byte_tokenizer())
