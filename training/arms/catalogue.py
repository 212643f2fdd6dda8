"""A small world of shop search in which every pair's grade follows from one rule, some of them rare.

    python -m training.arms.catalogue DIR [--train 8000 --queries 150 --per-rule 50 --seed 0]

A query names a kind of thing and some of its attributes; a document is a title. How the two differ is the pair's
rule, and the rule alone decides grade, criteria, evidence and missing terms:

    all asked for is there -> 3      colour or brand differs -> 2      size or material differs -> 1
    another kind of thing -> 0       a part for the thing -> 1         asked `without`, sold `with` -> 0
    one foot is twelve inch -> 3     pack of another number -> 2

The last four rules are rare, and each goes against what shared words suggest: what a policy forgets first. This is a
toy in which forgetting can be counted per rule; its figures say nothing about real queries.
"""

import argparse
import gzip
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevance.explanation import Explanation
from relevance.terms import Words

KINDS = ("kettle", "bucket", "lamp", "shelf", "clock", "chair", "mirror", "tray")
COLOURS = ("red", "blue", "green", "white", "black")
BRANDS = ("baker", "fisher", "mason", "turner", "miller")
MATERIALS = ("steel", "wood", "plastic", "glass")
FEATURES = ("lid", "handle", "timer", "light")
PARTS = ("cover", "holder", "stand")
FEET = {"1": "12", "2": "24", "3": "36", "4": "48"}
PACKS = ("2", "3", "4", "6")

GRADE_OF = {
    "exact": 3,
    "unit_converted": 3,
    "colour_differs": 2,
    "brand_differs": 2,
    "pack_differs": 2,
    "size_differs": 1,
    "material_differs": 1,
    "part_for_it": 1,
    "kind_differs": 0,
    "stranger": 0,
    "negated": 0,
}
# Share of each rule among the pairs; the rare ones are those below 4 %.
SHARES = {
    "exact": 0.27,
    "colour_differs": 0.14,
    "brand_differs": 0.12,
    "kind_differs": 0.16,
    "stranger": 0.12,
    "size_differs": 0.10,
    "material_differs": 0.02,
    "part_for_it": 0.025,
    "negated": 0.02,
    "unit_converted": 0.015,
    "pack_differs": 0.01,
}
RARE = tuple(rule for rule, share in SHARES.items() if share < 0.04)


@dataclass(frozen=True, slots=True)
class Thing:
    """What can be asked for or sold: attribute name -> its words, in the order they are written."""

    attributes: dict[str, str]

    def words(self, order: Sequence[str]) -> str:
        """The attributes of `order` that are there, as one text."""
        return " ".join(self.attributes[name] for name in order if name in self.attributes)

    def altered(self, name: str, words: str) -> "Thing":
        """The same with one attribute other than it was."""
        return Thing({**self.attributes, name: words})


TITLE_ORDER = ("brand", "colour", "material", "part", "kind", "size", "pack", "feature")
ASKED = ("brand", "colour", "material", "size", "pack", "feature")
_NEEDS = {
    "colour_differs": "colour",
    "brand_differs": "brand",
    "pack_differs": "pack",
    "size_differs": "size",
    "material_differs": "material",
    "negated": "feature",
    "unit_converted": "size",
}


def _other(rng: random.Random, words: Sequence[str], but: str) -> str:
    return rng.choice([word for word in words if word != but])


def draw_thing(rng: random.Random) -> Thing:
    """A thing with every attribute a title has; size in inch or foot, feature `with` or `without`."""
    size = f"{rng.choice(list(FEET.values()))} inch" if rng.random() < 0.7 else f"{rng.choice(list(FEET))} foot"
    return Thing(
        {
            "brand": rng.choice(BRANDS),
            "colour": rng.choice(COLOURS),
            "material": rng.choice(MATERIALS),
            "kind": rng.choice(KINDS),
            "size": size,
            "pack": f"pack of {rng.choice(PACKS)}",
            "feature": f"{rng.choice(('with', 'without'))} {rng.choice(FEATURES)}",
        }
    )


def _alterations(rng: random.Random, thing: Thing) -> dict[str, Callable[[], Thing]]:
    a = thing.attributes
    number, unit = a["size"].split()
    sizes = list(FEET.values()) if unit == "inch" else list(FEET)
    return {
        "exact": lambda: thing,
        "colour_differs": lambda: thing.altered("colour", _other(rng, COLOURS, a["colour"])),
        "brand_differs": lambda: thing.altered("brand", _other(rng, BRANDS, a["brand"])),
        "pack_differs": lambda: thing.altered("pack", f"pack of {_other(rng, PACKS, a['pack'].split()[-1])}"),
        "size_differs": lambda: thing.altered("size", f"{_other(rng, sizes, number)} {unit}"),
        "material_differs": lambda: thing.altered("material", _other(rng, MATERIALS, a["material"])),
        "kind_differs": lambda: thing.altered("kind", _other(rng, KINDS, a["kind"])),
        "part_for_it": lambda: thing.altered("part", f"{rng.choice(PARTS)} for"),
        "negated": lambda: thing.altered("feature", a["feature"].replace("without", "with")),
        "unit_converted": lambda: thing.altered("size", f"{FEET[number]} inch"),
        "stranger": lambda: draw_thing(rng),
    }


@dataclass(frozen=True, slots=True)
class Need:
    """A query: what is wanted, and the attributes it names in the order it names them."""

    wanted: Thing
    order: tuple[str, ...]

    @property
    def query(self) -> str:
        """Its text."""
        return self.wanted.words(self.order)

    def allows(self, rule: str) -> bool:
        """Whether a document can differ from it by `rule`."""
        words = self.wanted.attributes
        if rule == "negated" and not words["feature"].startswith("without"):
            return False
        if rule == "unit_converted" and not words["size"].endswith("foot"):
            return False
        return _NEEDS.get(rule, "kind") in self.order


def draw_need(rng: random.Random, rule: str) -> Need:
    """A query that allows `rule`."""
    wanted = draw_thing(rng)
    if rule == "negated":
        wanted = wanted.altered("feature", f"without {rng.choice(FEATURES)}")
    if rule == "unit_converted":
        wanted = wanted.altered("size", f"{rng.choice(list(FEET))} foot")
    order = [name for name in ASKED if rng.random() < 0.2 or _NEEDS.get(rule) == name]
    rng.shuffle(order)
    order.insert(rng.randint(0, len(order)), "kind")
    return Need(wanted, tuple(order))


def draw_pair(rng: random.Random, need: Need, rule: str) -> dict[str, Any]:
    """A row of one rule: texts, grade and explanation."""
    sold = _alterations(rng, need.wanted)[rule]()
    while rule == "stranger" and sold.attributes["kind"] == need.wanted.attributes["kind"]:
        sold = draw_thing(rng)
    dropped = {name for name in ASKED if name not in need.order and rng.random() < 0.6}
    title = Thing({name: words for name, words in sold.attributes.items() if name not in dropped})
    return {
        "query": need.query,
        "document": title.words(TITLE_ORDER),
        "grade": GRADE_OF[rule],
        "rule": rule,
        "explanation": _explain(rule, need.wanted, title, need.order),
    }


def _explain(rule: str, wanted: Thing, title: Thing, order: Sequence[str]) -> dict[str, Any]:
    # "1 foot" is met by "12 inch": the rule says so, the words do not.
    met = [
        n for n in order if title.attributes.get(n) == wanted.attributes[n] or (rule, n) == ("unit_converted", "size")
    ]
    grade, same_kind = GRADE_OF[rule], "kind" in met
    shown = [title.attributes[name] for name in TITLE_ORDER if name in met and name in title.attributes][:3]
    lacking = [wanted.attributes[name] for name in order if name not in met]
    words = Words.of(title.words(TITLE_ORDER))
    missing = [word for phrase in lacking for word in phrase.split() if words.lacks(word)]
    explanation = Explanation(
        wants=wanted.words(order),
        exactness=grade,
        coverage=round(3 * len(met) / len(order)),
        topicality=0 if not same_kind else (1 if rule == "part_for_it" else 3),
        context=0 if rule == "negated" else (1 if rule in ("part_for_it", "pack_differs") else 3),
        evidence=tuple(shown),
        missing=tuple(dict.fromkeys(missing))[:3],
        verdict=grade,
    )
    return explanation.to_json()


def draw_rows(rng: random.Random, count: int, documents: int = 1) -> list[dict[str, Any]]:
    """`count` queries with `documents` each, rules in their shares; the first rule also decides what is asked."""
    rows: list[dict[str, Any]] = []
    for first in rng.choices(list(SHARES), weights=list(SHARES.values()), k=count):
        need = draw_need(rng, first)
        others = [rule for rule in SHARES if need.allows(rule)]
        drawn = rng.choices(others, weights=[SHARES[rule] for rule in others], k=documents - 1)
        rows += [draw_pair(rng, need, rule) for rule in (first, *drawn)]
    return rows


def draw_splits(seed: int, num_train: int, num_queries: int, per_rule: int) -> dict[str, list[dict[str, Any]]]:
    """train and val (one document a query), test (eight), rules (`per_rule` pairs of every rule).

    No (query, document) of one split is in another.
    """
    rng = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": [], "rules": []}
    for name, count, documents in (("test", num_queries, 8), ("val", 2 * num_queries, 1), ("train", num_train, 1)):
        splits[name] = _unseen(draw_rows(rng, count, documents), seen)
    for rule in SHARES:
        splits["rules"] += _unseen([draw_pair(rng, draw_need(rng, rule), rule) for _ in range(per_rule)], seen)
    return splits


def _unseen(rows: list[dict[str, Any]], seen: set[tuple[str, str]]) -> list[dict[str, Any]]:
    fresh: list[dict[str, Any]] = []
    for row in rows:
        pair = (row["query"], row["document"])
        if pair not in seen:
            seen.add(pair)
            fresh.append(row)
    return fresh


def main(argv: Sequence[str] | None = None) -> None:
    """Write the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=8000, help="training pairs")
    parser.add_argument(
        "--queries", type=int, default=150, help="test queries of eight documents; twice as many in val"
    )
    parser.add_argument("--per-rule", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    for split, rows in draw_splits(args.seed, args.train, args.queries, args.per_rule).items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        with gzip.GzipFile(args.folder / f"{split}.jsonl.gz", "wb", mtime=0) as out:  # equal seeds, equal files
            out.write(lines.encode())
        print(f"{split}: {len(rows)} pairs")


if __name__ == "__main__":
    main()
