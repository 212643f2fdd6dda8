"""What the engine decodes, alone in its thread: tokens a second by the number of explanations under way.

No HTTP, no event loop, no text: streams, the engine's steps, the grammar's choices. What a service gives less than
this is what the way to its readers costs. Explanations are of the pairs given, at temperature 1 with a seed each; when
one ends the next begins, its pair computed beforehand and not counted.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.base import DocumentWork, Engine, PromptKV
from engine.prefix_cache import PrefixCache
from relevance.artifact import Artifact
from relevance.grammar import AnswerGrammar, PairGrammar
from relevance.pair import Pair
from service.errors import ServiceError
from service.explaining.choice import AnswerPath
from service.explaining.events import Sampling
from service.explaining.grouping import AS_A_BATCH, IN_ONE_ROW
from service.explaining.kv_store import KVStore
from service.explaining.stream import Stream
from service.explaining.streams import Streams
from service.explaining.turns import Turns
from service.work import Prompt

KV_BYTES = 1 << 30


class Ends:
    """A listener that counts tokens, and explanations that have ended."""

    def __init__(self) -> None:
        self.num_tokens = self.num_ended = 0

    def tell(self, tokens: Sequence[int], is_last: bool, error: ServiceError | None) -> None:
        """As `service.explaining.stream.Listener` says."""
        self.num_tokens += len(tokens)
        self.num_ended += is_last or error is not None


@dataclass(frozen=True, slots=True)
class Subject:
    """A pair with its KV, and the grade to explain."""

    prompt: Prompt
    kv: PromptKV
    grammar: PairGrammar
    label_token_id: int


def compute_subjects(artifact: Artifact, engine: Engine, pairs: Sequence[Pair]) -> list[Subject]:
    """The pairs whole documents of which leave room for an answer, computed."""
    spec = artifact.manifest.spec
    encoder, grammar = spec.encoder(artifact.tokenizer), AnswerGrammar(artifact.tokenizer, spec.scale)
    found = []
    for pair in pairs:
        prefix = encoder.encode_prefix(pair.query)
        (document,) = encoder.encode_documents(prefix, [pair.document])
        (kv,) = engine.prefill_prefixes([prefix.ids])
        logits, (kept,) = engine.keep_documents([DocumentWork(kv, document.ids, keeps_kv=True)])
        assert kept is not None
        grade = int(np.argmax(logits[0]))
        own = grammar.for_pair(pair.query, pair.document, encoder.document_ids(document.ids), grade)
        label = artifact.manifest.label_token_ids[grade]
        found.append(Subject(Prompt(prefix.ids, document.ids), kept.copy(), own, label))
    return found


class Decoding:
    """A service's explanations without the service."""

    def __init__(self, artifact: Artifact, engine: Engine, pairs: Sequence[Pair]) -> None:
        self._engine = engine
        self._seeds = itertools.count()
        self._subjects = compute_subjects(artifact, engine, pairs)
        self._limits = IN_ONE_ROW if artifact.answer_graph_path is None else AS_A_BATCH

    def rate(self, number: int, seconds: float, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
        """So many explanations under way for so long: tokens a second, and what a step has and takes."""
        streams = Streams(number, KVStore(KV_BYTES), PrefixCache(KV_BYTES), Turns(0.1), clock, self._limits)
        for subject in self._subjects:
            streams.store.put(subject.prompt, subject.kv)
        ends = Ends()
        for _ in range(number):
            self._begin(streams, ends)
        num_steps, num_begun, spent = 0, number, 0.0
        while spent < seconds:
            began = clock()
            step = streams.next_step(scores_wait=False)
            assert step is not None
            step.run(self._engine)
            step.finish(clock() - began)
            spent += clock() - began
            num_steps += 1
            while num_begun - ends.num_ended < number:
                self._begin(streams, ends)
                num_begun += 1
        return {
            "tokens_per_s": ends.num_tokens / spent,
            "step_ms": 1e3 * spent / num_steps,
            "tokens_a_step": ends.num_tokens / num_steps,
        }

    def _begin(self, streams: Streams, ends: Ends) -> None:
        seed = next(self._seeds)
        subject = self._subjects[seed % len(self._subjects)]
        path = AnswerPath(subject.grammar, subject.label_token_id, Sampling(temperature=1.0, seed=seed), 400)
        streams.admit(Stream(subject.prompt, path, ends))


def measure_decoding(
    artifact: Artifact, engine: Engine, pairs: Sequence[Pair], numbers: Sequence[int], plan: tuple[float, int]
) -> dict[str, Any]:
    """Medians over rounds; `plan`: seconds of one measurement, rounds, the numbers by turns in each."""
    seconds, rounds = plan
    decoding = Decoding(artifact, engine, pairs)
    found: dict[int, list[dict[str, float]]] = {number: [] for number in numbers}
    decoding.rate(max(numbers), seconds)
    for _, number in itertools.product(range(rounds), numbers):
        found[number].append(decoding.rate(number, seconds))
    medians = {
        str(number): {name: round(float(np.median([one[name] for one in rows])), 2) for name in rows[0]}
        for number, rows in found.items()
    }
    alone = medians[str(numbers[0])]["tokens_per_s"] or math.nan
    for one in medians.values():
        one["to_one"] = round(one["tokens_per_s"] / alone, 2)
    return medians
