"""New pairs for rules that few pairs come under: one thing changed in a pair that matched, labelled by the rule.

    python -m training.synthesis --data-dir DIR --sources homedepot/train.jsonl.gz ... --out DIR/synthetic.jsonl.gz

For every rule of the book with fewer than `--min-pairs` pairs and an edit (`training.rules.edits`) that can bring it
about, up to `--per-rule` pairs are made out of source pairs of the two highest grades that share half of the query's
words. A new pair is kept if the rule applies to it and did not apply to its source, and if no source and no other new
pair has the same texts. Its grade is the rule's: its upper bound, or the source's own grade where the rule is a lower
bound; a stranger gets 0. Rows say the rule, the edit, and the file and line they were made of. The same seed gives the
same rows.
"""

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevance.provenance import command_line, write_result
from training.data import LabelledPair, read_pairs
from training.rules.book import Rule, RuleBook
from training.rules.edits import EDITS, Corpus, Edited, Subject
from training.rules.figures import applicability
from training.rules.predicates import PREDICATES
from training.rules.text import TextFeatures
from training.splits import refuse_test_files

_TRIES_PER_PAIR = 60


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A labelled pair and where it stands."""

    pair: LabelledPair
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class SyntheticRow:
    """A made pair: its grade by a rule, and what it was made of."""

    query: str
    document: str
    grade: int
    rule: str
    edit: str
    source: str
    """`file:line`."""
    is_twin: bool = False
    """Says rightly what the edited query says wrongly; its grade is the source's."""

    def to_json(self) -> dict[str, Any]:
        """The row as it is written."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_sources(data_dir: Path, names: Sequence[str], num_grades: int) -> list[SourceRow]:
    """All rows of the source files; a test file is refused."""
    refuse_test_files(names)
    return [
        SourceRow(pair, name, line)
        for name in names
        for line, pair in enumerate(read_pairs(data_dir / name, num_grades), start=1)
    ]


class Synthesizer:
    """Makes pairs for rules out of source rows, each text pair once."""

    def __init__(self, book: RuleBook, sources: Sequence[SourceRow]) -> None:
        self.book, self._sources = book, sources
        self._corpus = Corpus.of([(row.pair.query, row.pair.document) for row in sources])
        self._seen = {_key(row.pair.query, row.pair.document) for row in sources}
        self._matching = [row for row in sources if row.pair.grade >= book.num_grades - 2 and _is_plain(row.pair)]

    def pairs_for(self, rule: Rule, count: int, rng: random.Random) -> Iterator[SyntheticRow]:
        """Up to `count` new pairs under `rule`, and their twins."""
        if rule.applies is None or not self._matching:
            return
        names = [name for name in rule.applies.all_of if name in EDITS]
        made = 0
        for _ in range(_TRIES_PER_PAIR * count * bool(names)):
            if made == count:
                return
            source, name = rng.choice(self._matching), rng.choice(names)
            edited = EDITS[name](Subject(source.pair.query, source.pair.document, self._corpus, rng))
            if edited is not None:
                rows = self._label(rule, name, source, edited)
                made += bool(rows)
                yield from rows

    def _label(self, rule: Rule, edit: str, source: SourceRow, edited: Edited) -> list[SyntheticRow]:
        """The edited pair with its grade, and its twin; nothing where the rule does not come of it."""
        pair, origin = source.pair, f"{source.file}:{source.line}"
        key = _key(edited.query, edited.document)
        grade = self._grade(rule, edit, pair.grade)
        applies = rule.applies_to(edited.query, edited.document) and not rule.applies_to(pair.query, pair.document)
        if grade is None or not applies or key in self._seen:
            return []
        self._seen.add(key)
        rows = [SyntheticRow(edited.query, edited.document, grade, rule.id, edit, origin)]
        if edited.twin is not None and _key(edited.twin, edited.document) not in self._seen:
            self._seen.add(_key(edited.twin, edited.document))
            rows.append(SyntheticRow(edited.twin, edited.document, pair.grade, rule.id, edit, origin, is_twin=True))
        return rows

    def _grade(self, rule: Rule, edit: str, grade: int) -> int | None:
        if edit == "nothing_shared":
            return 0 if rule.effect.keeps(0) else None
        if rule.effect.at_most is not None:
            return rule.effect.at_most if grade > rule.effect.at_most else None
        return grade if rule.effect.keeps(grade) else None


def _is_plain(pair: LabelledPair) -> bool:
    """Half of the query's words are in the document: what is changed then is what makes the difference."""
    return PREDICATES["half_shared"](TextFeatures.of(pair.query), TextFeatures.of(pair.document))


def _key(query: str, document: str) -> tuple[str, str]:
    return " ".join(query.lower().split()), " ".join(document.lower().split())


def rule_counts(book: RuleBook, pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Pairs each rule with a condition applies to."""
    counts = applicability(book, pairs).sum(axis=0).tolist()
    return {rule.id: int(n) for rule, n in zip(book.rules, counts, strict=True) if rule.applies is not None}


def synthesize(
    book: RuleBook, sources: Sequence[SourceRow], min_pairs: int, per_rule: int, seed: int
) -> tuple[list[SyntheticRow], dict[str, dict[str, int]]]:
    """New rows in the book's order of rules, and pairs per rule before and after."""
    before = rule_counts(book, [(row.pair.query, row.pair.document) for row in sources])
    synthesizer = Synthesizer(book, sources)
    rows: list[SyntheticRow] = []
    for rule in book.rules:
        missing = min(per_rule, min_pairs - before.get(rule.id, 0))
        if rule.applies is not None and missing > 0:
            rows += synthesizer.pairs_for(rule, missing, random.Random(f"{seed}/{rule.id}"))
    added = rule_counts(book, [(row.query, row.document) for row in rows]) if rows else {}
    made = Counter(row.rule for row in rows if not row.is_twin)
    return rows, {
        rule_id: {"before": count, "after": count + added.get(rule_id, 0), "made_for_it": made[rule_id]}
        for rule_id, count in before.items()
    }


def write_rows(path: Path, rows: Sequence[SyntheticRow]) -> None:
    """Write gzipped JSON lines, whole or not at all; equal rows give equal bytes."""
    temporary = path.with_name(path.name + ".part")
    lines = "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
    temporary.write_bytes(gzip.compress(lines.encode(), mtime=0))
    temporary.replace(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Write new pairs and print the coverage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", required=True, help="training files; never a test split")
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl.gz file")
    parser.add_argument("--book", type=Path, help="a version of the rule book; default: the repository's")
    parser.add_argument("--min-pairs", type=int, default=1000, help="rules with fewer pairs get new ones")
    parser.add_argument("--per-rule", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, help="write the coverage as a results file")
    args = parser.parse_args(argv)
    book = RuleBook.preset() if args.book is None else RuleBook.from_file(args.book)
    sources = read_sources(args.data_dir, args.sources, book.num_grades)
    rows, coverage = synthesize(book, sources, args.min_pairs, args.per_rule, args.seed)
    write_rows(args.out, rows)
    for rule_id, row in coverage.items():
        print(f"{rule_id:<28}{row['before']:>8} ->{row['after']:>8}   made {row['made_for_it']}")
    result = {"pairs": len(rows), "twins": sum(row.is_twin for row in rows), "rules": coverage}
    if args.result is not None:
        command = command_line("training.synthesis", sys.argv[1:] if argv is None else argv)
        write_result(args.result, command, {"book": book.content_hash, "sources": args.sources, **result})
    print(json.dumps({"pairs": len(rows), "sources": len(sources)}))


if __name__ == "__main__":
    main()
