"""Explanations of real pairs, checked one by one: do they hold, and is the grade theirs, however they were computed?

    python -m benchmarks.explain_pairs --data DIR/trecdl/val.jsonl.gz [--pairs 500] [--out results/explain_pairs.json]

Each pair is scored, then explained three times:

    resumed      from the KV of the scored pair, alone
    computed     its pair computed once more, alone
    among_32     resumed again, 32 at once

verdict    the explanation's verdict is the grade that was returned
first      the first token that went through the model is that grade's label
quotes     quoted evidence that stands in the document, character by character
holds      nothing of it is wrong by `relevance.explanation.check`
same       the three are equal

Last line: JSON.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.explain_model import running_model
from engine.base import AnswerWork, DocumentWork, PrefixKV, PromptKV
from engine.ort import OrtEngine
from relevance.artifact import load_artifact
from relevance.explanation import Explanation, check
from relevance.pair import Pair
from relevance.provenance import command_line, write_result
from service.explaining.events import Done, ExplanationRequest, Step
from service.live_model import LiveModel
from service.work import Terms
from training.data import read_pairs

TOGETHER = 32
WAYS = ("resumed", "computed", "among_32")


class WitnessEngine:
    """An engine, and the first token of each answer that went through it."""

    def __init__(self, engine: OrtEngine) -> None:
        self._engine = engine
        self.first_tokens: list[int] = []

    @property
    def num_row_tokens(self) -> int:
        """As the engine counts."""
        return self._engine.num_row_tokens

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """As the engine does."""
        return self._engine.prefill_prefixes(prefixes)

    def score_documents(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        """As the engine does."""
        return self._engine.score_documents(documents)

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        """As the engine does."""
        return self._engine.keep_documents(documents)

    def extend_answers(self, answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        """As the engine does, noting what an answer begins with."""
        self.first_tokens += [work.ids[0] for work in answers if work.answer.num_tokens == 0]
        return self._engine.extend_answers(answers)

    def close(self) -> None:
        """As the engine does."""
        self._engine.close()


@dataclass(slots=True)
class Told:
    """One explanation."""

    values: dict[str, Any] = field(default_factory=dict)
    done: Done | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One pair and its grade."""

    pair: Pair
    grade: int


async def tell(model: LiveModel, one: Scored) -> Told:
    """Explain a grade, greedily."""
    told = Told()
    async for event in model.explainer.explain(ExplanationRequest(one.pair, one.grade)):
        if isinstance(event, Step):
            told.values[event.name] = event.value
        elif isinstance(event, Done):
            told.done = event
    return told


async def score(model: LiveModel, pair: Pair, *, keeps_kv: bool) -> Scored:
    """The grade of a pair."""
    scored = await model.scorer.score([pair], terms=Terms(keeps_kv=keeps_kv))
    return Scored(pair, int(scored.pairs.grades[0]))


def judge(one: Scored, told: Told, first_token: int | None, label: int, *, resumed: bool) -> dict[str, int]:
    """What holds of one explanation."""
    explanation = Explanation.from_json(told.values)
    found = [quote in one.pair.document for quote in told.values["evidence"]]
    return {
        "verdict": explanation.verdict == one.grade,
        "first": first_token == label,
        "quotes": len(found),
        "quotes_found": sum(found),
        "holds": not check(explanation, one.pair.query, one.pair.document, one.grade),
        "resumed": told.done is not None and told.done.resumed is resumed,
    }


def summarise(rows: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Shares of one way."""
    quotes = sum(row["quotes"] for row in rows)
    return {
        "pairs": len(rows),
        **{name: statistics.mean(row[name] for row in rows) for name in ("verdict", "first", "holds", "resumed")},
        "quotes": quotes,
        "quotes_found": sum(row["quotes_found"] for row in rows) / quotes if quotes else None,
    }


async def examine(
    model: LiveModel, witness: WitnessEngine, pairs: Sequence[Pair], labels: Sequence[int]
) -> dict[str, Any]:
    """All three ways."""
    rows: dict[str, list[dict[str, int]]] = {way: [] for way in WAYS}
    told: dict[str, list[Told]] = {way: [] for way in WAYS}
    for pair in pairs:  # before its KV is kept: so it has to be computed once more
        one = await score(model, pair, keeps_kv=False)
        witness.first_tokens.clear()
        told["computed"].append(await tell(model, one))
        rows["computed"].append(
            judge(one, told["computed"][-1], witness.first_tokens[0], labels[one.grade], resumed=False)
        )
    for start in range(0, len(pairs), TOGETHER):
        scored = [await score(model, pair, keeps_kv=True) for pair in pairs[start : start + TOGETHER]]
        for one in scored:
            witness.first_tokens.clear()
            told["resumed"].append(await tell(model, one))
            first = witness.first_tokens[0]
            rows["resumed"].append(judge(one, told["resumed"][-1], first, labels[one.grade], resumed=True))
        witness.first_tokens.clear()
        found = await asyncio.gather(*(tell(model, one) for one in scored))
        told["among_32"] += found
        # They are admitted in any order: as many of each grade began as were asked for, is what can be said.
        firsts = dict.fromkeys(labels, 0) | {label: witness.first_tokens.count(label) for label in labels}
        for one, answer in zip(scored, found, strict=True):
            label = labels[one.grade]
            firsts[label] -= 1
            first = label if firsts[label] >= 0 else None
            rows["among_32"].append(judge(one, answer, first, label, resumed=True))
    same = [len({json.dumps(told[way][i].values) for way in WAYS}) == 1 for i in range(len(pairs))]
    return {**{way: summarise(found) for way, found in rows.items()}, "same": statistics.mean(same)}


async def run(folder: Path, pairs: Sequence[Pair]) -> tuple[str, dict[str, Any]]:
    """The model's id and the figures."""
    artifact = load_artifact(folder)
    witness = WitnessEngine(OrtEngine(artifact, num_threads=1))
    async with running_model(artifact, lambda: witness) as model:
        found = await examine(model, witness, pairs, artifact.manifest.label_token_ids)
        explainer = model.explainer
        found["held_afterwards"] = explainer.num_streams + explainer.num_held_pairs + explainer.answer_bytes
    return artifact.model_id, found


def main(argv: Sequence[str] | None = None) -> None:
    """Examine, print, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/explain_pairs.json"))
    args = parser.parse_args(argv)
    num_grades = load_artifact(args.artifact).manifest.spec.scale.num_grades
    rows = random.Random(args.seed).sample(read_pairs(args.data, num_grades), args.pairs)
    pairs = list(dict.fromkeys(Pair(row.query, row.document) for row in rows))
    model_id, figures = asyncio.run(run(args.artifact, pairs))
    data = f"{args.data.parent.name}/{args.data.name.split('.')[0]}"
    command = command_line("benchmarks.explain_pairs", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {"model": model_id, "data": data, "figures": figures})
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
