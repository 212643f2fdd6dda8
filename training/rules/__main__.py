"""How often each rule applies to graded pairs, and whether their gold grades keep it.

python -m training.rules --data FILE [FILE ...] [--book FILE] [--out results/rules.json]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from relevance.provenance import command_line, write_result
from training.data import read_pairs
from training.rules.book import RuleBook
from training.rules.figures import applicability, coverage


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table per file, and write the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--book", type=Path, help="a version of the rule book; default: the repository's")
    parser.add_argument("--out", type=Path, help="write a results file")
    args = parser.parse_args(argv)
    book = RuleBook.preset() if args.book is None else RuleBook.from_file(args.book)
    figures = {}
    for path in args.data:
        pairs = read_pairs(path, book.num_grades)
        applies = applicability(book, [(pair.query, pair.document) for pair in pairs])
        rows = coverage(book, applies, [pair.grade for pair in pairs])
        name = f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.jsonl')}"
        figures[name] = {"num_pairs": len(pairs), "covered": float(applies.any(axis=1).mean()), "rules": rows}
        print(f"{name}: {len(pairs)} pairs, {figures[name]['covered']:.0%} under a rule")
        for rule_id, row in rows.items():
            print(f"  {rule_id:<32}{row['num_pairs']:>8}{row['gold_keeps']:>8.0%}{row['mean_grade']:>7.2f}")
    if args.out is not None:
        command = command_line("training.rules", sys.argv[1:] if argv is None else argv)
        write_result(args.out, command, {"book": book.content_hash, "version": book.version, "figures": figures})


if __name__ == "__main__":
    main()
