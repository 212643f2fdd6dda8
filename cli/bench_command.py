"""`answer-first bench`: how fast an artifact is on this machine, in process and without HTTP."""

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import MISUSED, CliError

# Words of everyday lengths; what they say does not matter for time.
_WORDS = ("cable", "charger", "usb", "wool", "socks", "steel", "kettle", "bread", "light", "power", "phone", "case")


def bench(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")] = Path("artifacts/default"),
    documents: Annotated[int, typer.Option(min=1, help="Documents of a request.")] = 20,
    words: Annotated[int, typer.Option(min=1, help="Words of a document.")] = 40,
    rounds: Annotated[int, typer.Option(min=3, help="Requests that are timed, after a warm-up of three.")] = 20,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one model run; default: as served.")] = None,
) -> None:
    """Time the scoring of made-up documents on this machine, without HTTP and without caches.

    The figures of the pages come from `benchmarks/`; this is the quick look.
    """
    from engine.local import LocalScorer  # noqa: PLC0415 - a command loads what it needs
    from relevance.artifact import load_artifact  # noqa: PLC0415
    from relevance.pair import Pair  # noqa: PLC0415
    from service.assembly import num_threads_for  # noqa: PLC0415

    if words > 10_000 or documents > 10_000:
        raise CliError("bench: at most 10,000 documents of 10,000 words", MISUSED)
    loaded = load_artifact(artifact)
    scorer = LocalScorer.open(artifact, num_threads=num_threads_for(loaded, threads, 1, 1))
    encoder = loaded.manifest.spec.encoder(loaded.tokenizer)
    took, num_tokens = [], 0
    for number in range(rounds + 3):
        # Another text each time: equal pairs would be computed once.
        pairs = [Pair(f"query {number}", _document(number * documents + place, words)) for place in range(documents)]
        began = time.perf_counter()
        scorer.distributions(pairs)
        if number >= 3:
            took.append(time.perf_counter() - began)
            prefix = encoder.encode_prefix(pairs[0].query, None)
            num_tokens += sum(len(one.ids) for one in encoder.encode_documents(prefix, [p.document for p in pairs]))
    scorer.close()
    total = sum(took)
    typer.echo(
        f"{loaded.model_id}, {loaded.manifest.precision}: {rounds} requests of {documents} documents, {words} words"
    )
    typer.echo(
        f"a request   median {1e3 * statistics.median(took):.1f} ms, "
        f"best {1e3 * min(took):.1f}, worst {1e3 * max(took):.1f}"
    )
    typer.echo(f"a second    {rounds * documents / total:.0f} documents, {num_tokens / total:.0f} tokens")


def _document(number: int, words: int) -> str:
    return " ".join(_WORDS[(number * 7 + place * (1 + number % 5)) % len(_WORDS)] for place in range(words))
