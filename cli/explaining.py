"""What `answer-first explain` does: the artifact with its engine thread in this process, one score, one explanation."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from cli.errors import CliError
from engine.ort import OrtEngine
from relevance.artifact import load_artifact
from relevance.pair import Pair
from service.assembly import Assembler, num_threads_for
from service.errors import ServiceError
from service.explaining.events import Delta, Done, Event, ExplanationRequest, Grade, Sampling, Step
from service.live_model import LiveModel
from service.metrics import Metrics
from service.settings import Settings
from service.work import Terms


def explain_pair(folder: Path, pair: Pair, sampling: Sampling, as_json: bool) -> None:
    """Score `pair` with the artifact in `folder`, explain the grade, and print both.

    Raises:
        CliError: it cannot be explained.
    """
    try:
        asyncio.run(_explain(folder, pair, sampling, as_json))
    except ServiceError as error:
        raise CliError(f"{error.code}: {error}") from error


class _Printer:
    """Text as it comes."""

    def __init__(self, score: float) -> None:
        self._score = score
        self._begun: set[str] = set()

    def say(self, event: Event) -> None:
        if isinstance(event, Grade):
            typer.echo(f"{self._score:.3f}  {event.grade} {event.name}")
        elif isinstance(event, Delta):
            self._begin(event.step)
            typer.echo(event.text, nl=False)
        elif isinstance(event, Step):
            was_begun = event.name in self._begun
            self._begin(event.name)
            typer.echo("" if was_begun else str(event.value))
        else:
            took, num_tokens = event.timing.total_s, event.usage.completion_tokens
            typer.echo(f"{num_tokens} tokens in {1e3 * took:.0f} ms", err=True)

    def _begin(self, step: str) -> None:
        if step not in self._begun:
            self._begun.add(step)
            typer.echo(f"{step:>11}  ", nl=False)


async def _explain(folder: Path, pair: Pair, sampling: Sampling, as_json: bool) -> None:
    async with _live(folder) as model:
        scored = await model.scorer.score([pair], terms=Terms(keeps_kv=True))
        grade, score = int(scored.pairs.grades[0]), float(scored.pairs.scores[0])
        printer = _Printer(score)
        told: dict[str, Any] = {"score": score, "grade": grade, "grade_name": model.served.grade_names[grade]}
        async with aclosing(model.explainer.explain(ExplanationRequest(pair, grade, sampling=sampling))) as events:
            async for event in events:
                if as_json:
                    _keep(told, event)
                else:
                    printer.say(event)
        if as_json:
            typer.echo(json.dumps(told, ensure_ascii=False))


def _keep(told: dict[str, Any], event: Event) -> None:
    if isinstance(event, Step):
        told.setdefault("explanation", {})[event.name] = event.value
    elif isinstance(event, Done):
        told |= {"usage": asdict(event.usage), "timing": asdict(event.timing), "resumed": event.resumed}


@asynccontextmanager
async def _live(folder: Path) -> AsyncIterator[LiveModel]:
    """The artifact in `folder` with its engine thread, in this process."""
    artifact = load_artifact(folder)
    with ThreadPoolExecutor(1, "tokenise") as executor:
        metrics = Metrics(artifact.manifest.spec.scale.names, outcomes=[])
        model = Assembler(Settings(artifact=folder), metrics, executor, time.monotonic).assemble(artifact)
        threads = num_threads_for(artifact, None, 1, len(os.sched_getaffinity(0)))
        try:
            await model.started(lambda: OrtEngine(artifact, num_threads=threads), _report)
            yield model
        finally:
            await model.close()


def _report(error: BaseException) -> None:
    typer.echo(f"answer-first: the engine ended: {error}", err=True)
