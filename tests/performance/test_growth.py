"""How cost grows: the line and the knee by hand, and the whole command on the tiny model."""

import json
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.growth_line import AXES, Size, fit_line, is_on_line, knee_of, predict

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"
PACK = 128
SIZES = [size for axis in AXES.values() for size in axis]


def test_tokens_and_calls_of_a_size() -> None:
    size = Size(num_documents=9, document_tokens=32, prefix_tokens=16)
    assert size.num_tokens == 16 + 9 * 32
    assert size.num_calls(PACK) == 1 + 3  # four documents to a pack
    assert Size(2, 200, 16).num_calls(PACK) == 1 + 2


def test_the_line_is_found_where_it_holds_and_longer_runs_do_not_bend_it() -> None:
    true = (1e-4, 2e-3)
    seconds = [predict(true, size, PACK) * (1.0 if is_on_line(size, PACK) else 3.0) for size in SIZES]
    assert not all(is_on_line(size, PACK) for size in SIZES)
    assert fit_line(SIZES, seconds, PACK) == pytest.approx(true)


def test_a_call_never_costs_less_than_nothing() -> None:
    sizes = [size for size in SIZES if is_on_line(size, PACK)]
    # Small sizes are cheaper than their tokens: by itself the fit would want a negative cost of a call.
    seconds = [1e-4 * size.num_tokens - 2e-4 * size.num_calls(PACK) for size in sizes]
    tokens, call = fit_line(sizes, seconds, PACK)
    assert call == 0.0
    assert 0.9e-4 < tokens < 1e-4


@pytest.mark.parametrize(
    ("rates", "knee"),
    [
        ({1: 10.0, 2: 20.0, 4: 38.0, 8: 40.0, 16: 39.0}, 4),  # 95 % of the most
        ({1: 10.0, 2: 20.0, 4: 37.9, 8: 40.0}, 8),
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 9.0}, 1),
    ],
)
def test_the_knee_is_where_more_clients_get_no_more(rates: dict[int, float], knee: int) -> None:
    assert knee_of(rates) == knee


def test_the_command_measures_every_axis_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, chart = tmp_path / "growth.json", tmp_path / "growth.svg"
    growth.main(["--artifact", str(TINY), "--quick", "--out", str(out), "--chart", str(chart)])
    result = json.loads(out.read_text())
    for axis, sizes in AXES.items():
        rows = result["axes"][axis]
        fitting = [size for size in sizes if size.prefix_tokens + size.document_tokens <= 256]  # the tiny model's
        assert [row["num_tokens"] for row in rows] == [size.num_tokens for size in fitting]
        assert all(row["ms"] > 0.0 and row["line_ms"] > 0.0 for row in rows)
        assert [row["memory_mib"] for row in rows] == sorted(row["memory_mib"] for row in rows)  # a peak never falls
    assert [row["at"] for row in result["clients"]] == list(growth.QUICK_CLIENTS)
    assert result["knee_clients"] in growth.QUICK_CLIENTS
    assert result["start"]["start_s"] > result["start"]["load_s"] > 0.0
    text = chart.read_text()
    assert text.count("<svg") == 1
    assert f"knee: {result['knee_clients']}" in text
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["line"] == result["line"]
