"""The rule book: what its predicates see, how strictly it is read, how a version follows another."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.rules import Effect, RuleBook, RuleBookError, rules_of
from training.rules import __main__ as coverage_command
from training.rules.figures import applicability, coverage, recall_per_rule
from training.rules.predicates import PREDICATES
from training.rules.text import TextFeatures, quantities, stem

BOX_LEVEL = "Husky 24 in. Box Level"
LONG = " and this sentence goes on for many words that say nothing new at all" * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24 in.", {("length", 609.6)}),
        ("2 ft", {("length", 609.6)}),
        ("1-1/4 in. pipe", {("length", 31.75)}),
        ("36 x 24 in.", {("length", 914.4), ("length", 609.6)}),
        ("8,000 BTU", {("heat", 8000.0)}),
        ("32 sq. ft. case", {("sq length", 32.0)}),
        ("1 tb disk", {("storage", 1000.0)}),
        ("cat 5", {("count", 5.0)}),
        ("a 1/0 wire", set()),
        ("no number", set()),
    ],
)
def test_quantities(text: str, expected: set[tuple[str, float]]) -> None:
    assert {(dimension, value) for dimension, value, _, _ in quantities(text)} == expected


def test_stems_join_plurals_and_leave_others_alone() -> None:
    words = ("batteries", "boxes", "dishes", "covers", "glass", "bus", "is", "tv")
    assert [stem(word) for word in words] == ["battery", "box", "dish", "cover", "glass", "bus", "is", "tv"]


@pytest.mark.parametrize(
    ("query", "head"),
    [
        ("white garage door", "door"),
        ("case for iphone", "case"),
        ("door white", "door"),
        ("stainless steel", "steel"),
        ("24 in", None),
    ],
)
def test_the_thing_asked_for(query: str, head: str | None) -> None:
    assert TextFeatures.of(query).head == head


# (predicate, query, document, whether it holds): each predicate once where it does and once where it does not.
CASES = [
    ("quantity_differs", "36 in. level", BOX_LEVEL, True),
    ("quantity_differs", "2 ft level", BOX_LEVEL, False),
    ("unit_differs", "24 ft level", BOX_LEVEL, True),
    ("unit_differs", "24 inch level", BOX_LEVEL, False),
    ("numbers_met", "24 inch level", BOX_LEVEL, True),
    ("numbers_met", "24 inch 5 lb level", BOX_LEVEL, False),
    ("number_missing", "level 9", BOX_LEVEL, True),
    ("number_missing", "level 24", BOX_LEVEL, False),
    ("brand_differs", "bosch level", BOX_LEVEL, True),
    ("brand_differs", "husky level", BOX_LEVEL, False),
    ("brand_met", "husky level", BOX_LEVEL, True),
    ("brand_met", "level", BOX_LEVEL, False),
    ("colour_differs", "black door", "White Door", True),
    ("colour_differs", "charcoal door", "Gray Door", False),
    ("material_differs", "glass shelf", "Steel Shelf", True),
    ("material_differs", "wood shelf", "Oak Shelf", False),
    ("size_differs", "queen mattress", "Twin Mattress", True),
    ("size_differs", "twin mattress", "Twin Mattress", False),
    ("model_differs", "toner tn-2110", "Toner TN-3380", True),
    ("model_differs", "toner tn-2110", "Toner TN-2110", False),
    ("model_met", "toner tn-2110", "Toner TN-2110", True),
    ("model_met", "toner", "Toner TN-2110", False),
    ("negation_broken", "bucket without lid", "Bucket with Lid", True),
    ("negation_broken", "bucket without lid", "Bucket, no lid", False),
    ("negation_added", "soap with perfume", "Soap without perfume", True),
    ("negation_added", "soap", "Soap without perfume", False),
    ("opposite", "cordless drill", "Corded Drill", True),
    ("opposite", "cordless drill", "Cordless Drill", False),
    ("accessory", "laptop", "Laptop Charger", True),
    ("accessory", "laptop charger", "Laptop Charger", False),
    ("part", "toilet", "Toilet Seat", True),
    ("part", "toilet seat", "Toilet Seat", False),
    ("for_the_thing", "smartphone", "Grip for Smartphone", True),
    ("for_the_thing", "smartphone", "Smartphone with Grip", False),
    ("answer_kind_missing", "how many moons has mars", "It has small moons.", True),
    ("answer_kind_missing", "how many moons has mars", "It has 2 moons.", False),
    ("answer_kind_met", "what is a moon", "A moon is a satellite.", True),
    ("answer_kind_met", "what is a moon", "Bright moons!", False),
    ("misspelt", "vynyl floor", "Vinyl Floor", True),
    ("misspelt", "vinyl floor", "Vinyl Floor", False),
    ("synonym", "leather couch", "Leather Sofa", True),
    ("synonym", "leather couch", "Leather Couch", False),
    ("exact_title", "garden hose", "Long Garden Hose", True),
    ("exact_title", "garden hose", "Hose, Garden", False),
    ("nothing_shared", "wire bender", "Blue Hammer", True),
    ("nothing_shared", "wire bender", "Blue Wire", False),
    ("half_shared", "wire bender", "Blue Wire", True),
    ("half_shared", "strong wire bender", "Blue Wire", False),
    ("all_shared", "batteries", "One battery", True),
    ("all_shared", "big batteries", "One battery", False),
    ("head_missing", "kitchen faucet", "Kitchen Sink", True),
    ("head_missing", "kitchen faucet", "Kitchen Tap", False),
    ("is_shop", "kitchen faucet", "Kitchen Tap", True),
    ("is_shop", "what is a faucet", "Kitchen Tap", False),
    ("is_question", "what is a faucet", "", True),
    ("is_question", "faucet", "", False),
    ("is_passage", "faucet", LONG, True),
    ("is_passage", "faucet", "Tap", False),
    ("is_health", "fever", "See a doctor", True),
    ("is_health", "tile", "Pain, fever: see a doctor", False),
    ("one_word_query", "faucets", "", True),
    ("one_word_query", "kitchen faucets", "", False),
    ("long_query", "white round bathroom mirror light", "", True),
    ("long_query", "white mirror", "", False),
    ("short_document", "", "LiDE 70", True),
    ("short_document", "", "LiDE 70 flatbed photo scanner", False),
    ("long_document", "", LONG * 3, True),
    ("long_document", "", LONG, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "query", "document", "expected"), CASES)
def test_predicates(name: str, query: str, document: str, expected: bool) -> None:
    assert PREDICATES[name](TextFeatures.of(query), TextFeatures.of(document)) is expected


def test_every_predicate_is_tested_both_ways() -> None:
    assert {(name, expected) for name, _, _, expected in CASES} == {(n, e) for n in PREDICATES for e in (True, False)}


def small_book() -> dict[str, Any]:
    return {
        "name": "small",
        "version": 1,
        "num_grades": 4,
        "rules": [
            {
                "id": "brand-differs",
                "domain": "shop",
                "statement": "Another brand is at most related.",
                "applies": {"all_of": ["is_shop", "brand_differs"]},
                "effect": {"at_most": 1},
                "examples": [{"query": "bosch drill", "document": "Makita Drill", "grade": 1}],
                "origin": {"made_by": "hand"},
            },
            {
                "id": "language",
                "domain": "any",
                "statement": "Another language is at most related.",
                "effect": {"at_most": 1},
                "origin": {"made_by": "hand"},
            },
        ],
    }


def test_the_preset_is_read_and_names_rules_of_a_pair() -> None:
    assert "brand-differs" in rules_of("bosch drill", "Makita Cordless Drill")
    assert rules_of("bosch drill", "Makita Cordless Drill") == RuleBook.preset().rules_of(
        "bosch drill", "Makita Cordless Drill"
    )
    assert all(rule.examples or rule.applies is None for rule in RuleBook.preset().rules)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("applies",),
            {"all_of": ["no_such_thing"]},
            "rule 'brand-differs'.applies.*no predicate named 'no_such_thing'",
        ),
        (("effect",), {"at_most": 1, "at_least": 0}, "rule 'brand-differs'.effect.*exactly one"),
        (("effect",), {"at_most": 7}, "rule 'brand-differs': grades go from 0 to 3"),
        (("examples", 0, "grade"), 3, "rule 'brand-differs'.*example 1 has grade 3"),
        (("examples", 0, "document"), "Bosch Drill", "rule 'brand-differs'.*does not meet the rule's condition"),
        (("id",), "language", "its id is that of rule 'language'"),
        (("statement",), "ANOTHER language is at most related.", "rule 'language': its statement is that of"),
        (("colour",), "red", "rule 'brand-differs'.colour.*not permitted"),
    ],
)
def test_a_bad_book_names_file_and_rule(path: tuple[Any, ...], value: object, message: str, tmp_path: Path) -> None:
    book = small_book()
    place = book["rules"][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file = tmp_path / "book.json"
    file.write_text(json.dumps(book))
    with pytest.raises(RuleBookError, match=message) as raised:
        RuleBook.from_file(file)
    assert str(file) in str(raised.value)


def test_no_book_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(RuleBookError, match="No such file"):
        RuleBook.from_file(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RuleBookError, match="not JSON"):
        RuleBook.from_file(tmp_path / "bad.json")


def test_a_version_names_its_parent_and_leaves_it_alone(tmp_path: Path) -> None:
    book = RuleBook.model_validate(small_book())
    edited = book.rules[0].model_copy(update={"effect": Effect(at_most=2)})
    following = book.next_version([edited])
    assert (following.version, following.parent) == (2, book.content_hash)
    assert [rule.id for rule in following.rules] == [rule.id for rule in book.rules]
    assert following.rule("brand-differs").effect.at_most == 2
    assert book.rule("brand-differs").effect.at_most == 1
    following.to_file(tmp_path / "book.json")
    assert RuleBook.from_file(tmp_path / "book.json") == following
    with pytest.raises(RuleBookError, match="its statement is that of"):
        book.next_version([edited.model_copy(update={"id": "brand-again"})])


def test_the_instruction_is_whole_statements_of_the_domain_that_fit() -> None:
    book = RuleBook.model_validate(small_book())
    first, second = (rule.statement for rule in book.rules)
    assert book.instruction(["shop"], lambda _: True) == f"{first} {second}"
    assert book.instruction(["web"], lambda _: True) == second
    assert book.instruction(["shop"], lambda text: len(text) <= len(second)) == first
    with pytest.raises(RuleBookError, match="no statement for shop fits"):
        book.instruction(["shop"], lambda _: False)


def test_figures_by_hand() -> None:
    book = RuleBook.model_validate(small_book())
    pairs = [("bosch drill", "Makita Drill")] * 4 + [("bosch drill", "Bosch Drill")]
    applies = applicability(book, pairs)
    assert applies.tolist() == [[True, False]] * 4 + [[False, False]]
    gold, predicted = [0, 1, 1, 3, 3], [0, 1, 2, 3, 3]
    assert coverage(book, applies, gold) == {"brand-differs": {"num_pairs": 4, "gold_keeps": 0.75, "mean_grade": 1.25}}
    figures = recall_per_rule(book, applies, np.array(predicted), np.array(gold), min_pairs=4)["brand-differs"]
    # Recall: grade 0 one of one, grade 1 one of two, grade 3 one of one. Kept: two of the three that gold keeps.
    assert figures == {
        "num_pairs": 4,
        "accuracy": 0.75,
        "recall": pytest.approx((1 + 0.5 + 1) / 3),
        "kept": pytest.approx(2 / 3),
    }
    assert recall_per_rule(book, applies, predicted, gold, min_pairs=5) == {}


def test_the_coverage_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    data = tmp_path / "set" / "train.jsonl"
    data.write_text(json.dumps({"query": "bosch drill", "document": "Makita Drill", "grade": 1}) + "\n")
    coverage_command.main(["--data", str(data), "--out", str(tmp_path / "rules.json")])
    written = json.loads((tmp_path / "rules.json").read_text())
    assert written["figures"]["set/train"]["rules"]["brand-differs"]["num_pairs"] == 1
    assert "set/train: 1 pairs, 100% under a rule" in capsys.readouterr().out
