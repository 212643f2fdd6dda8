"""Plans are read strictly, and rates follow from what earlier phases found."""

import itertools
from pathlib import Path

import pytest

from loadtest.arrivals import due_times
from loadtest.knee import Level, knee_of, next_rate
from loadtest.plan import InvalidPlanError, load_plan, rate_of

PLANS = Path(__file__).parents[2] / "loadtest" / "plans"
OPEN = '[[phases]]\nkind = "open"\nrate = {rate}\n'
HEAD = 'name = "x"\nslo_ms = 100\n'


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_committed_plans_can_be_run(path: Path) -> None:
    assert load_plan(path).phases


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + OPEN.format(rate=5) + "ratee = 3\n", "ratee"),
        (HEAD + "[mix]\ndocument = 3\n" + OPEN.format(rate=5), "mix.document"),
        (HEAD + OPEN.format(rate=0), "above 0"),
        (HEAD + OPEN.format(rate='"80 percent"'), "is no rate"),
        (HEAD + OPEN.format(rate='"80% of knee"'), "no phase before it finds the knee"),
        (HEAD, "phases"),
        (HEAD + '[[phases]]\nkind = "half-open"\n', "half-open"),
        (HEAD + "[mix]\ndocuments = {0 = 1.0}\n" + OPEN.format(rate=5), "sizes are 1 or more"),
        (HEAD + "[mix]\ndocuments = {5 = 0.0}\n" + OPEN.format(rate=5), "not all 0"),
        (HEAD + "[mix]\ncached_share = 1.5\n" + OPEN.format(rate=5), "cached_share"),
        ('name = "x"\n' + OPEN.format(rate=5), "slo_ms"),
        ("name = ", "plan.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidPlanError, match=said):
        load_plan(plan_file(tmp_path, text))


def test_a_file_of_pairs_lies_beside_the_plan(tmp_path: Path) -> None:
    text = HEAD + '[mix]\npairs = "pairs.jsonl"\n' + OPEN.format(rate=5)
    assert load_plan(plan_file(tmp_path, text)).mix.pairs == tmp_path / "pairs.jsonl"


def test_a_rate_is_a_number_or_a_share_of_what_was_found() -> None:
    found = {"knee": 20.0, "closed": 30.0}
    assert rate_of(7.5, found) == 7.5
    assert rate_of("80% of knee", found) == pytest.approx(16.0)
    assert rate_of("12.5 % of closed", found) == pytest.approx(3.75)
    with pytest.raises(KeyError):
        rate_of("50% of knee", {})


def test_constant_arrivals_are_evenly_apart() -> None:
    assert due_times(4.0, 1.0, "constant", seed=0) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_their_rate_and_their_spread() -> None:
    due = due_times(200.0, 100.0, "poisson", seed=3)
    assert due == sorted(due)
    assert due[-1] < 100.0
    # 20,000 expected, standard deviation 141; gaps of a Poisson process vary as much as their mean.
    assert abs(len(due) - 20_000) < 600
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.05)
    assert due != due_times(200.0, 100.0, "poisson", seed=4)


def ramp(capacity: float, start: float, refine: int, max_levels: int = 20) -> list[Level]:
    """A ramp on a service that holds every rate up to its capacity."""
    levels: list[Level] = []
    while (rate := next_rate(levels, start, 1.5, refine, max_levels)) is not None:
        levels.append(Level(rate, rate <= capacity))
    return levels


@pytest.mark.parametrize("start", [1.0, 9.9, 10.0, 200.0])
def test_a_ramp_ends_close_below_what_the_service_holds(start: float) -> None:
    knee = knee_of(ramp(10.0, start, refine=5))
    assert knee is not None
    # The gap of a factor 1.5, halved five times.
    assert 10.0 / 1.5 ** (1 / 2**5) <= knee <= 10.0


def test_refining_takes_the_levels_it_says() -> None:
    without, with_three = ramp(10.0, 4.0, refine=0), ramp(10.0, 4.0, refine=3)
    assert [level.held for level in without] == [True, True, True, False]
    assert len(with_three) == len(without) + 3


def test_a_ramp_gives_up_after_its_levels() -> None:
    assert len(ramp(float("inf"), 1.0, refine=2, max_levels=6)) == 6
    assert knee_of(ramp(0.0, 1.0, refine=2, max_levels=4)) is None


def test_luck_above_a_broken_level_is_no_knee() -> None:
    assert knee_of([Level(5, True), Level(10, False), Level(12, True)]) == 5
