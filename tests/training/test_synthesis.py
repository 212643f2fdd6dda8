"""Made pairs: one thing changed, the rule comes of it, no text twice, the same seed the same rows."""

import gzip
import json
import random
from pathlib import Path

import pytest

from training import synthesis
from training.data import LabelledPair
from training.rules import RuleBook
from training.rules.edits import EDITS, Corpus, Edited, Subject
from training.splits import refuse_test_files

PAIRS = [
    ("box level", "Husky 24 in. Box Level"),
    ("box level", "Bosch Box Level"),
    ("box level", "Bosch 9 in. Box Level"),
    ("box level", "Bosch Torpedo Box Level"),
    ("toilet", "Kohler White Toilet"),
    ("drop cloth", "Canvas Drop Cloth in White"),
    ("queen mattress", "Queen Mattress"),
]


@pytest.mark.parametrize(
    ("edit", "query", "document", "expected"),
    [
        ("unit_differs", "box level", "Husky 24 in. Box Level", ("24 ft box level", None, "24 in box level")),
        ("brand_differs", "box level", "Husky 24 in. Box Level", ("bosch box level", None, "husky box level")),
        ("brand_differs", "husky box level", "Husky Box Level", ("bosch box level", None, None)),
        ("brand_differs", "makita box level", "Husky Box Level", None),
        ("negation_broken", "bucket", "Bucket with Lid", ("bucket without lid", None, "bucket with lid")),
        ("opposite", "drill", "Corded Drill", ("cordless drill", None, "corded drill")),
        ("opposite", "corded drill", "Corded Drill", ("cordless drill", None, None)),
        ("opposite", "drill", "Drill", None),
        ("synonym", "leather couch", "Leather Couch", ("leather sofa", None, None)),
        ("answer_kind_missing", "how many", "It has 2. It is big.", ("how many", "It is big.", None)),
        ("answer_kind_missing", "how many", "It is big.", None),
        ("quantity_differs", "8 in. level", "Husky 24 in. Box Level", None),
        ("nothing_shared", "box level", "Husky Box Level", None),
        ("accessory", "toilet", "Kohler Toilet", None),
    ],
)
def test_edits(edit: str, query: str, document: str, expected: tuple[str, str | None, str | None] | None) -> None:
    corpus = Corpus.of(PAIRS[:4])  # strangers of a level are levels, too
    edited = EDITS[edit](Subject(query, document, corpus, random.Random(1)))
    wanted = None if expected is None else Edited(expected[0], expected[1] or document, expected[2])
    assert edited == wanted


def write(folder: Path, name: str = "train.jsonl") -> None:
    rows = [{"query": query, "document": document, "grade": 3} for query, document in PAIRS]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(folder: Path, out: str, *arguments: str) -> list[dict[str, object]]:
    argv = ["--data-dir", str(folder), "--sources", "train.jsonl", "--out", str(folder / out), "--per-rule", "3"]
    synthesis.main([*argv, *arguments])
    return [json.loads(line) for line in gzip.open(folder / out, "rt")]


def test_the_command_makes_pairs_that_come_under_their_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    rows = run(tmp_path, "a.jsonl.gz", "--result", str(tmp_path / "result.json"))
    book = RuleBook.preset()
    edited = [row for row in rows if not row["is_twin"]]
    assert {"quantity-differs", "unit-differs", "brand-differs", "colour-differs", "size-word-differs"} <= {
        row["rule"] for row in edited
    }
    for row in edited:
        rule = book.rule(str(row["rule"]))
        assert rule.applies_to(str(row["query"]), str(row["document"]))
        assert rule.effect.keeps(int(str(row["grade"])))
    twins = [row for row in rows if row["is_twin"]]
    assert twins
    assert {row["grade"] for row in twins} == {3}
    texts = [(row["query"], row["document"]) for row in rows]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & set(PAIRS)
    for row in rows:
        name, line = str(row["source"]).split(":")
        assert name == "train.jsonl"
        assert 1 <= int(line) <= len(PAIRS)
    result = json.loads((tmp_path / "result.json").read_text())["rules"]["colour-differs"]
    assert result["before"] == 0
    assert result["after"] >= result["made_for_it"] > 0
    assert '"sources": 7' in capsys.readouterr().out


def test_the_seed_decides(tmp_path: Path) -> None:
    write(tmp_path)
    run(tmp_path, "a.jsonl.gz")
    run(tmp_path, "b.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert run(tmp_path, "c.jsonl.gz", "--seed", "1") != run(tmp_path, "a.jsonl.gz")


def test_rules_with_enough_pairs_get_none(tmp_path: Path) -> None:
    write(tmp_path)
    assert run(tmp_path, "a.jsonl.gz", "--min-pairs", "0") == []


def test_a_test_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "test.jsonl")
    with pytest.raises(ValueError, match=r"test\.jsonl: a test split is never"):
        synthesis.main(["--data-dir", str(tmp_path), "--sources", "test.jsonl", "--out", str(tmp_path / "a.jsonl.gz")])
    assert not (tmp_path / "a.jsonl.gz").exists()


def test_the_word_test_in_a_file_name_is_what_counts() -> None:
    refuse_test_files(["test/train.jsonl", "latest.jsonl", "tested-by-hand.jsonl"])
    for name in ("a/test.jsonl.gz", "homedepot_test.jsonl", "TEST-2.jsonl"):
        with pytest.raises(ValueError, match="never trained"):
            refuse_test_files([name])


def test_a_source_that_came_under_the_rule_already_is_left_alone() -> None:
    book = RuleBook.preset()
    rule = book.rule("misspelt-is-fine")

    def made_of(query: str) -> list[synthesis.SyntheticRow]:
        pair = LabelledPair(query, "Vinyl Flooring Panels", (0.0, 0.0, 0.0, 1.0))
        synthesizer = synthesis.Synthesizer(book, [synthesis.SourceRow(pair, "train", 1)])
        return list(synthesizer.pairs_for(rule, 1, random.Random(0)))

    (row,) = made_of("vinyl flooring panels")
    assert row.grade == 3
    assert made_of("vynyl vinyl flooring panels") == []
