"""Evolution: what the mutator proposes, and rounds on a tiny model that are kept, dropped, resumed and written down."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relevance.errors import PromptError
from training.config import ConfigError
from training.data import LabelledPair
from training.evolve import __main__ as command
from training.evolve.config import EvolveConfig
from training.evolve.loop import EvolutionRun
from training.evolve.mutator import RuleMutator
from training.evolve.proposals import Case, Findings, Proposal, find_disagreements
from training.evolve.trial import Laboratory
from training.rules import RuleBook

BRANDS = ("bosch", "makita", "husky", "dewalt")
THINGS = ("drill", "hammer", "level", "saw")


def pair(query: str, document: str, grade: int) -> LabelledPair:
    return LabelledPair(query, document, tuple(float(k == grade) for k in range(4)))


def brand_pairs(grade_of_another: int, count: int = 60) -> list[LabelledPair]:
    """Another brand than asked for has one grade throughout, the right brand has 3."""
    rng = random.Random(0)
    pairs = []
    for _ in range(count):
        thing, (asked, other) = rng.choice(THINGS), rng.sample(BRANDS, 2)
        number = rng.randrange(1000)
        pairs.append(pair(f"{asked} {thing}", f"{other} {thing} {number}", grade_of_another))
        pairs.append(pair(f"{asked} {thing}", f"{asked} {thing} {number}", 3))
    return pairs


def findings_of(pairs: Sequence[LabelledPair], predicted: int, tried: Sequence[str] = ()) -> Findings:
    return find_disagreements(RuleBook.preset(), pairs, np.full(len(pairs), predicted), frozenset(tried))


def proposal_for(rule_id: str, findings: Findings) -> Proposal:
    return next(p for p in RuleMutator(40, 1).propose(findings, 100, 0) if p.rule_id == rule_id)


def test_findings_by_hand() -> None:
    pairs = [pair("bosch drill", "makita drill", 1), pair("bosch drill", "husky drill", 3), pair("saw", "a cake", 0)]
    findings = find_disagreements(RuleBook.preset(), pairs, np.array([3, 3, 3]), frozenset())
    found = {finding.rule.id: finding for finding in findings.ranked}
    brand = found["brand-differs"]
    assert (brand.rows.tolist(), brand.num_wrong, brand.mass, brand.gold_keeps) == ([0, 1], 1, 2, 0.5)
    assert findings.ranked[0].rule.id == "nothing-shared"  # off by 3


def test_a_rule_that_gold_keeps_gets_cases_of_the_right_grade() -> None:
    proposal = proposal_for("brand-differs", findings_of(brand_pairs(1), predicted=3))
    assert (proposal.kind, proposal.edits) == ("cases", ())
    assert {case.kind for case in proposal.cases} == {"made", "real"}
    rule = RuleBook.preset().rule("brand-differs")
    under = [case for case in proposal.cases if rule.applies_to(case.query, case.document)]
    assert len(under) > 20
    assert {case.grade for case in under} == {1}
    assert len(proposal.cases) <= 40


def test_a_bound_that_gold_breaks_is_moved_to_where_gold_is() -> None:
    proposal = proposal_for("brand-differs", findings_of(brand_pairs(2), predicted=1))
    (edited,) = proposal.edits
    assert proposal.kind == "bound"
    assert edited.effect.at_most == 2
    assert edited.statement == "Another brand than the one asked for is at most highly relevant."
    assert (edited.origin.made_by, edited.origin.made_in_round, edited.origin.made_from) == (
        "mutator",
        1,
        "brand-differs",
    )
    assert edited.examples == RuleBook.preset().rule("brand-differs").examples


def test_a_rule_is_narrowed_to_where_gold_keeps_it() -> None:
    pairs = brand_pairs(1)
    pairs += [pair(f"bosch drill {n}", f"makita case {n}", 3) for n in range(40)]  # no drill: not like the others
    proposal = proposal_for("brand-differs", findings_of(pairs, predicted=0))
    (edited,) = proposal.edits
    assert proposal.kind == "narrow"
    assert edited.applies is not None
    kept = [edited.applies_to(p.query, p.document) for p in pairs]
    assert not any(kept[-40:])
    assert sum(kept) >= 60
    assert edited.statement.startswith("Another brand than the one asked for is at most related, ")


def test_what_was_tried_is_not_proposed_again() -> None:
    first = proposal_for("brand-differs", findings_of(brand_pairs(2), predicted=1))
    second = proposal_for("brand-differs", findings_of(brand_pairs(2), predicted=1, tried=[first.key]))
    assert (first.kind, second.kind) == ("bound", "cases")


@pytest.fixture(scope="module")
def evolve_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red is asked for. Mining pairs know red only, grade 3; on validation blue comes up too, grade 0."""
    folder = tmp_path_factory.mktemp("evolve")
    rng = random.Random(1)
    for name, colours in (("train", ("red",)), ("val", ("red", "blue"))):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as out:
            for _ in range(200):
                thing, colour = rng.choice(("case", "cable", "kettle", "light")), rng.choice(colours)
                row = {"query": f"red {thing}", "document": f"{colour} {thing} {rng.randrange(100)}"}
                out.write(json.dumps({**row, "grade": 3 if colour == "red" else 0}) + "\n")
    return folder


def config(checkpoint: Path, **changes: Any) -> EvolveConfig:
    fields = {
        "base_model": str(checkpoint),
        "mining": ("train.jsonl.gz",),
        "validation": ("val.jsonl.gz",),
        "mining_rows": 100,
        "replay_rows": 60,
        "num_rounds": 2,
        "proposals_per_round": 1,
        "cases_per_proposal": 40,
        "resamples": 200,
        "precision": "float32",
        "adaptation": {"learning_rate": 3e-3, "batch_tokens": 256, "warmup_steps": 1},
        **changes,
    }
    return EvolveConfig.model_validate(fields)


class Scripted:
    """Proposes given cases, one set a round."""

    def __init__(self, *rounds: Sequence[Case]) -> None:
        self.rounds, self.asked = list(rounds), 0

    def propose(self, *_: object) -> list[Proposal]:
        cases = self.rounds[self.asked]
        self.asked += 1
        return [Proposal("colour-differs", f"script {self.asked}", "", (), tuple(cases))]


def blue_cases(grade: int) -> list[Case]:
    return [Case("red case", f"blue case {number}", grade, "made") for number in range(60)]


def test_what_helps_is_kept_and_what_does_not_is_dropped(
    tiny_checkpoint: Path, evolve_data: Path, tmp_path: Path
) -> None:
    adaptation = {"learning_rate": 1e-2, "batch_tokens": 512, "num_passes": 2}
    settings = config(tiny_checkpoint, replay_rows=120, adaptation=adaptation)
    proposer = Scripted(blue_cases(3), blue_cases(0))  # the wrong one first
    wrong, right = EvolutionRun(settings, evolve_data, tmp_path, proposer).run()
    assert not wrong["kept"]
    assert wrong["proposals"][0]["over_control"]["p"] > 0.2
    assert right["kept"]
    assert right["proposals"][0]["over_control"]["difference"] > 0.3
    assert not (tmp_path / "round-01" / "proposal-1" / "checkpoint").exists()
    assert not (tmp_path / "round-02" / "control" / "checkpoint").exists()
    assert (tmp_path / right["checkpoint"] / "config.json").is_file()


def test_rounds_are_written_down_and_a_stopped_run_goes_on(
    tiny_checkpoint: Path, evolve_data: Path, tmp_path: Path
) -> None:
    settings = config(tiny_checkpoint)
    whole = EvolutionRun(settings, evolve_data, tmp_path / "whole").run()
    assert [record["round"] for record in whole] == [1, 2]
    assert whole[0]["proposals"][0]["cases"]
    stopped = tmp_path / "pieces"
    EvolutionRun(settings, evolve_data, stopped).run()
    lines = (stopped / "rounds.jsonl").read_text().splitlines()
    (stopped / "rounds.jsonl").write_text(lines[0] + "\n")  # killed in the second round, its trials done
    trained = (stopped / "round-02" / "control" / "log.jsonl").read_text()
    again = EvolutionRun(settings, evolve_data, stopped, Scripted()).run()  # asks nobody: its proposals are on file
    assert again == whole
    assert (stopped / "round-02" / "control" / "log.jsonl").read_text() == trained
    book = RuleBook.from_file(stopped / whole[-1]["book_file"])
    assert book.content_hash == whole[-1]["book"]
    with pytest.raises(ConfigError, match="another configuration"):
        EvolutionRun(config(tiny_checkpoint, seed=5), evolve_data, stopped)


def test_the_instruction_is_as_much_of_the_book_as_fits(tiny_checkpoint: Path, evolve_data: Path) -> None:
    laboratory = Laboratory(config(tiny_checkpoint, instruct=True, domains=("shop",)), evolve_data)
    book = RuleBook.preset()
    text = laboratory.instruction(book)
    assert text is not None
    statements = [rule.statement for rule in book.rules if rule.statement in text]
    assert len(" ".join(statements)) == len(text)
    encoder = laboratory.spec.encoder(laboratory._tokenizer)
    encoder.encode_prefix("query", text)
    missing = next(rule.statement for rule in book.rules if rule.domain == "shop" and rule.statement not in text)
    with pytest.raises(PromptError):
        encoder.encode_prefix("query", f"{text} {missing}")
    assert Laboratory(config(tiny_checkpoint), evolve_data).instruction(book) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": ("test.jsonl.gz",)}, "never trained, tuned or mined"),
        ({"validation": ("train.jsonl.gz",)}, "cannot be mined and validated on"),
        ({"rounds": 3}, "Extra inputs"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_the_command(
    tiny_checkpoint: Path, evolve_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evolve.toml"
    file.write_text(
        f'base_model = "{tiny_checkpoint}"\nmining = ["train.jsonl.gz"]\nvalidation = ["val.jsonl.gz"]\n'
        "mining_rows = 50\nreplay_rows = 20\nnum_rounds = 1\nproposals_per_round = 1\nresamples = 100\n"
        "[adaptation]\nbatch_tokens = 512\n"
    )
    argv = [str(file), "--data-dir", str(evolve_data), "--run", str(tmp_path / "run")]
    assert command.main([*argv, "--result", str(tmp_path / "evolution.json")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rounds"] == 1
    assert json.loads((tmp_path / "evolution.json").read_text())["level"] == 0.05
