"""The pairs an export is judged on.

`pairs.jsonl`, shipped with the package, holds pairs written for this purpose: shop titles, passages, an empty
and a very long document, other scripts, markup, control tokens spelt out. Files given by the user are read
besides; only built-in pairs become golden pairs, since those are published with the artifact.
"""

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from model_export.errors import ExportError
from relevance.errors import PromptError
from relevance.pair import Pair
from relevance.prompt import PromptEncoder

NUM_GOLDEN_PAIRS = 8


def builtin_pairs() -> list[Pair]:
    """The committed pairs, in order. A document may ask to be repeated: long texts stay short in the file."""
    text = (resources.files("model_export") / "pairs.jsonl").read_text(encoding="utf-8")
    return [
        Pair(row["query"], row["document"] * row.get("repeat", 1), row.get("instruction"))
        for row in map(json.loads, text.splitlines())
    ]


def renderable(pairs: Sequence[Pair], encoder: PromptEncoder) -> list[Pair]:
    """The pairs the template takes: it may have no place for an instruction, or too little."""
    return [pair for pair in pairs if _is_renderable(pair, encoder)]


def _is_renderable(pair: Pair, encoder: PromptEncoder) -> bool:
    try:
        encoder.encode_prefix(pair.query, pair.instruction)
    except PromptError:
        return False
    return True


def golden_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Evenly spread short pairs of `pairs`, few enough for a start-up self-test."""
    fit = [pair for pair in pairs if len(pair.document) <= 400]
    step = max(1, len(fit) // NUM_GOLDEN_PAIRS)
    return fit[::step][:NUM_GOLDEN_PAIRS]


def read_pairs(path: Path) -> Iterator[Pair]:
    """Pairs of a JSON-lines file, gzipped or not; rows need `query` and `document`.

    Raises:
        ExportError: the file cannot be read or a row is no pair; the message names file and line.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    yield Pair(row["query"], row["document"], row.get("instruction"))
                except (ValueError, KeyError, TypeError) as error:
                    raise ExportError(f"{path.name}:{number}: not a pair: {error!r}") from error
    except OSError as error:
        raise ExportError(f"{path.name}: {error.strerror or error}") from error


def sample_pairs(paths: Sequence[Path], num_pairs: int, seed: int) -> list[Pair]:
    """The built-in pairs and, up to `num_pairs` in all, a seeded sample of the files' pairs."""
    chosen, generator = builtin_pairs(), random.Random(seed)
    if num_pairs < len(chosen):
        return generator.sample(chosen, num_pairs)
    found = [pair for path in paths for pair in read_pairs(path)]
    return chosen + generator.sample(found, min(num_pairs - len(chosen), len(found)))
