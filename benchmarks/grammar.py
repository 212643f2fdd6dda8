"""What the grammar of explanations costs a decoder, and how much it decides.

    python -m benchmarks.grammar --tokenizer artifacts/default/tokenizer.json --data DIR/trecdl/val.jsonl.gz

For a sample of pairs an explanation is chosen at random, choice by choice. Figures are per file; times are processor
time, so that a busy machine counts little: milliseconds to set a pair up, microseconds per choice (what may come next,
going on, and the forced tokens behind it), tokens and choices of an explanation, and the share of explanations that
hold (relevance.explanation.check), which must be 1. Tokens that are no choice cost a decoder no step of their own: a
run of them goes through the model at once. Last line: JSON.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from relevance.explanation import check, parse
from relevance.grammar import AnswerGrammar, PairGrammar
from relevance.provenance import command_line, write_result
from relevance.spec import ScoringSpec
from relevance.tokenization import JsonTokenizer
from training.data import LabelledPair, read_pairs

MAX_DOCUMENT_TOKENS = 400


def walk(pair: PairGrammar, rng: random.Random) -> tuple[list[int], list[float]]:
    """The tokens of a random path, and the seconds of each of its choices."""
    ids, state = pair.forced_run(pair.start())
    seconds: list[float] = []
    while not pair.is_done(state):
        began = time.thread_time()
        allowed = pair.allowed(state)
        spent = time.thread_time() - began
        token = rng.choice(allowed)
        began = time.thread_time()
        run, state = pair.forced_run(pair.advance(state, token))
        seconds.append(spent + time.thread_time() - began)
        ids += [token, *run]
    return ids, seconds


def measure(grammar: AnswerGrammar, rows: Sequence[LabelledPair], seed: int) -> dict[str, float]:
    """The figures of one file's pairs."""
    rng = random.Random(seed)
    set_up: list[float] = []
    choices: list[float] = []
    num_tokens = num_document_tokens = holding = 0
    for row in rows:
        encoded = grammar.tokenizer.encode_user_texts([row.document.strip()])[0]
        ids = encoded[:MAX_DOCUMENT_TOKENS]
        began = time.thread_time()
        pair = grammar.for_pair(row.query, row.document, ids, row.grade, "start" if len(ids) < len(encoded) else None)
        set_up.append(time.thread_time() - began)
        said, seconds = walk(pair, rng)
        choices += seconds
        num_tokens, num_document_tokens = num_tokens + len(said), num_document_tokens + len(ids)
        found = parse(grammar.tokenizer.decode(said), grammar.scale)
        holding += not check(found, row.query, row.document, row.grade)
    return {
        "num_pairs": len(rows),
        "mean_document_tokens": num_document_tokens / len(rows),
        "set_up_ms": 1e3 * statistics.median(set_up),
        "choice_us": 1e6 * statistics.median(choices),
        "choice_p99_us": 1e6 * statistics.quantiles(choices, n=100)[-1],
        "mean_tokens": num_tokens / len(rows),
        "mean_choices": len(choices) / len(rows),
        "holds": holding / len(rows),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--rows", type=int, default=500, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/bench_grammar.json"))
    args = parser.parse_args(argv)
    scale = ScoringSpec.preset("minilm-grades").scale
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for tokenizer in args.tokenizer:
        grammar = AnswerGrammar(JsonTokenizer.from_file(tokenizer), scale)
        of_files = figures[tokenizer.parent.name] = {}
        for path in args.data:
            pairs = read_pairs(path, scale.num_grades)
            rows = random.Random(args.seed).sample(pairs, min(args.rows, len(pairs)))
            measure(grammar, rows[:20], args.seed)  # what is remembered of tokens and words is there when serving
            of_files[f"{path.parent.name}/{path.name.split('.')[0]}"] = measure(grammar, rows, args.seed)
    command = command_line("benchmarks.grammar", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {"figures": figures}, ("numpy", "tokenizers"))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
