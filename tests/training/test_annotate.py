"""Rule-based explanations: what they point at, and the file they are written to."""

import gzip
import json
import string
from pathlib import Path
from typing import Any

import pytest

from relevance.explanation import Explanation, check
from training.annotate import annotate_file, main, measure_agreement
from training.annotation import Annotator, derive_criteria
from training.data import DataError, read_pairs
from training.evidence import EvidenceFinder, asks_for_number
from training.matching import Match, QueryTerms, TermWeights

ANNOTATOR = Annotator(TermWeights(), 4)
TITLE = "Anker USB-C to USB-C Cable, 6 ft. 60 W, Black"
PASSAGE = (
    "Dental care is important. A dental surgeon can remove wisdom teeth in less than two hours, says Dr. Kraver. "
    "Healing takes at least 2 weeks if all goes well! Many people plan for 4 days of rest."
)


def annotate(query: str, document: str, grade: int, **given: Any) -> Explanation:
    explanation = ANNOTATOR.annotate(query, document, grade, **given)
    assert check(explanation, query, document, grade) == []
    return explanation


def match(query: str, document: str) -> Match:
    return Match.of(QueryTerms.of(query, TermWeights()), document)


def test_a_title_is_quoted_run_by_run() -> None:
    found = annotate("usb c cable 60 watt red", TITLE, 2)
    assert found.wants == "usb c cable 60 watt red"
    assert found.evidence == ("USB-C to USB-C Cable", "60 W")
    assert found.missing == ("red",)
    assert found.criteria == (3, 3, 3, 3)


def test_a_number_that_is_missing_costs_exactness() -> None:
    query = "black usb c to usb c cable from anker with 60 w and of 90 w"
    assert annotate(query, TITLE, 1).missing == ("90",)
    with_number, without = (derive_criteria(match(q, TITLE), 1) for q in (query, query.replace("90", "rare")))
    assert with_number["coverage"] == without["coverage"]
    assert with_number["exactness"] == without["exactness"] - 1


def test_a_quantity_in_another_unit_is_not_missing() -> None:
    assert annotate("72 inch usb cable", TITLE, 1).missing == ()
    assert annotate("73 inch usb cable", TITLE, 1).missing == ("73",)


def test_synonyms_are_not_missing() -> None:
    assert annotate("couch cover", "Grey sofa cover", 1).missing == ()


def test_what_is_not_wanted_is_not_missing_and_counts_against() -> None:
    assert annotate("fireplace without mantel", "Electric fireplace", 2).missing == ()
    with_mantel, without = (match("fireplace without mantel", d) for d in ("Fireplace with mantel", "Fireplace"))
    assert derive_criteria(with_mantel, 2)["exactness"] == 1
    assert derive_criteria(without, 2)["exactness"] == 3
    assert with_mantel.contradicts
    assert not without.contradicts


def test_a_passage_is_quoted_by_its_sentences() -> None:
    found = annotate("how long does it take to remove wisdom tooth", PASSAGE, 3)
    assert found.wants == "how long remove wisdom tooth"
    assert found.evidence[0].startswith("A dental surgeon can remove wisdom teeth")
    assert found.missing == ()


def test_where_a_number_is_asked_for_a_passage_with_one_is_preferred() -> None:
    document = "Rest is good. " * 8 + "Healing surely needs much rest. Healing takes 2 weeks. " + "Rest is good. " * 8
    quotes = [EvidenceFinder(document, [(("healing",), 1.0)], wants_number=w).quotes(1) for w in (False, True)]
    assert quotes == [["Healing surely needs much rest."], ["Healing takes 2 weeks."]]
    assert asks_for_number("how much does it cost")
    assert not asks_for_number("who sings monk theme song")


def test_the_lower_the_grade_the_more_is_missing_and_the_less_is_quoted() -> None:
    query = "red braided lightning cable charger"
    found = [annotate(query, TITLE, grade) for grade in range(4)]
    assert [len(explanation.missing) for explanation in found] == [4, 3, 2, 0]
    assert found[0].missing == ("red", "braided", "lightning", "charger")
    assert [e.verdict for e in found] == [0, 1, 2, 3]
    sums = [sum(e.criteria) for e in found]
    assert sums == sorted(sums)
    assert all(grade >= 2 for grade in found[3].criteria)


def test_irrelevant_without_common_words_has_no_evidence() -> None:
    found = annotate("wool socks", TITLE, 0)
    assert (found.evidence, found.criteria) == ((), (0, 0, 0, 0))


def test_irrelevant_with_little_in_common_has_no_evidence() -> None:
    query = "wool socks for black winter boots"
    assert annotate(query, TITLE, 0).evidence == ()
    assert annotate(query, TITLE, 1).evidence == ("Black",)


def test_quotes_do_not_overlap() -> None:
    words = [letter * 3 for letter in string.ascii_lowercase]
    terms = [(("aaa",), 2.0), (("ooo",), 1.0)]
    assert EvidenceFinder(" ".join(words[:16]), terms, wants_number=False).quotes(2) == ["aaa", "ooo"]  # a title
    text = f"{' '.join(words[:16])}, {' '.join(words[16:])}. Yes."
    found = EvidenceFinder(text, terms, wants_number=False).quotes(2)
    assert found == [" ".join(words[:12]), " ".join(words[14:16])]


def test_relevant_without_common_words_quotes_the_beginning() -> None:
    assert annotate("lenovo", "ThinkPad X300 Series 6 Cell Battery", 3).evidence == (
        "ThinkPad X300 Series 6 Cell Battery",
    )


def test_a_long_question_keeps_its_subject() -> None:
    query = (
        "Sleep apnea. I have heard that there is surgery, but have never found a doctor that does this. My husband has "
        "used a machine for years, took it off after 2 hours. He is not overweight. Is surgery an option for apnea?"
    )
    found = annotate(query, "Central sleep apnea is a sleep disorder.", 1)
    assert {"Sleep", "apnea", "surgery"} <= set(found.wants.split())
    assert "husband" not in found.wants
    assert "surgery" in found.missing


def test_judged_criteria_stay() -> None:
    criteria = {"exactness": 0, "coverage": 1, "topicality": 2, "context": 3}
    assert annotate("usb cable", TITLE, 3, criteria=criteria).criteria == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("query", "document"), [("", ""), ("?", "..."), ("the", "x " * 300), ("a|b <c>", "a|b <c> ; d")]
)
def test_odd_texts(query: str, document: str) -> None:
    for grade in range(4):
        annotate(query, document, grade)


def test_long_words_do_not_make_a_quote_too_long() -> None:
    annotate("x-y", "x-y " + "/".join("abc") * 40 + " x-y-" * 12, 3)


def test_rare_terms_weigh_more() -> None:
    weights = TermWeights(["the red cup", "a red hat", "red"])
    assert weights["hat"] > weights["red"] >= 1.0
    assert match("hat", "a hat").share == 1.0


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROW = {"query": "usb cable", "document": TITLE, "grade": 2}
JUDGED = {"exactness": 1, "coverage": 2, "topicality": 3, "contextual_fit": 0}


def test_a_file_comes_out_with_explanations(tmp_path: Path) -> None:
    odd = "\ud800 usb \u2028 c\u0301"  # half a character cannot be encoded, only escaped
    source = write(tmp_path / "in.jsonl", [{**ROW, "id": 7}, {**ROW, "criteria": JUDGED}, {**ROW, "query": odd}])
    out = tmp_path / "new" / "out.jsonl.gz"
    assert main([str(source), str(out)]) == 0
    rows = [json.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
    assert rows[0]["id"] == 7
    assert rows[2]["query"] == odd
    assert Explanation.from_json(rows[1]["explanation"]).criteria == (1, 2, 3, 0)
    assert read_pairs(out, 4)[0].grade == 2
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl.gz"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**ROW, "grade": 4}, "grade must be an integer 0 to 3, got 4"),
        ({**ROW, "grade": True}, "grade must be"),
        ({**ROW, "document": None}, "document must be text"),
        ({**ROW, "criteria": {**JUDGED, "coverage": 9}}, "criteria.coverage must be 0 to 3, got 9"),
        ({**ROW, "criteria": {"exactness": 1}}, "criteria.coverage must be 0 to 3, got None"),
        ({**ROW, "criteria": 3}, "criteria must be an object"),
        ([1], "not an object"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(
    tmp_path: Path, bad: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "in.jsonl", [ROW, bad]), tmp_path / "out.jsonl"
    assert main([str(source), str(out)]) == 2
    assert f"line 2: {message}" in capsys.readouterr().err
    assert not out.exists()


def test_a_run_that_breaks_off_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write(tmp_path / "in.jsonl", [ROW, ROW]), tmp_path / "out.jsonl"
    out.write_text("old")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", interrupt)
    with pytest.raises(KeyboardInterrupt):
        annotate_file(source, out, 4)
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_agreement_with_judged_criteria(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query": "usb cable", "document": "USB cable", "grade": 3, "criteria": dict.fromkeys(JUDGED, 3)},
        {"query": "usb cable", "document": "wool socks", "grade": 0, "criteria": dict.fromkeys(JUDGED, 0)},
    ]
    path = write(tmp_path / "in.jsonl", rows)
    out = tmp_path / "result.json"
    assert main([str(path), "--agreement", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"][f"{tmp_path.name}/in"]
    assert figures["num_pairs"] == 2
    assert figures["context"] == {"kappa": 1.0, "kappa_of_grade": 1.0}
    with pytest.raises(DataError, match="no row has judged criteria"):
        measure_agreement(write(tmp_path / "none.jsonl", [ROW]), 4)
