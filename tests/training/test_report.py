"""The report: a log read back, and one page that holds all of it and asks the network for nothing."""

import base64
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from relevance.spec import SPEC_FILE, ScoringSpec
from training.data import LabelledPair
from training.grade_figures import grade_details
from training.report import __main__ as command
from training.report import plots
from training.report.log import RunHistory, read_history
from training.report.page import FileReport, render_page, table

SCALE = ScoringSpec.preset("minilm-grades").scale


def write_log(folder: Path, *events: dict[str, object], torn: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "log.jsonl").write_text(text + ('{"event": "st' if torn else ""))


def step(number: int, loss: float) -> dict[str, object]:
    return {"event": "step", "step": number, "loss": loss, "tokens": 10, "seconds": 0.1}


def test_a_history_is_read_and_repeated_steps_count_once(tmp_path: Path) -> None:
    validation = {"event": "validation", "step": 2, "file": "/data/set/val.jsonl", "qwk": 0.4, "num_pairs": 9}
    start = {"event": "start", "step": 0, "config": {"seed": 1}}
    write_log(tmp_path, start, step(0, 3.0), step(1, 2.0), start, step(1, 1.5), step(2, 1.0), validation, torn=True)
    history = read_history(tmp_path)
    assert history.steps == {"loss": ([0.0, 1.0, 2.0], [3.0, 1.5, 1.0])}
    assert history.validation == {"set/val.jsonl": {"qwk": ([2.0], [0.4])}}
    assert history.start["config"] == {"seed": 1}
    with pytest.raises(FileNotFoundError, match=r"no log\.jsonl"):
        read_history(tmp_path / "none")


def test_the_stages_of_a_curriculum_follow_one_another(tmp_path: Path) -> None:
    stage = {"event": "stage", "stage": "easy", "num_rows": 5}
    write_log(tmp_path, stage)
    write_log(tmp_path / "1-easy", step(0, 3.0), step(1, 2.0))
    write_log(tmp_path / "2-hard", step(1, 2.5))
    history = read_history(tmp_path)
    assert history.steps["loss"] == ([0.0, 1.0, 2.0], [3.0, 2.0, 2.5])
    assert history.stages == [stage]


def details() -> dict[str, object]:
    grades = [0, 1, 2, 3] * 8
    pairs = [
        LabelledPair("bosch drill", f"Makita Drill {n}", tuple(float(k == g) for k in range(4)))
        for n, g in enumerate(grades)
    ]
    distribution = [[0.1 + 0.6 * (k == g) for k in range(4)] for g in grades]
    return grade_details(distribution, 1.5, pairs, SCALE)


def test_plots_are_svg_and_the_same_every_time() -> None:
    found = details()
    drawn = [
        plots.confusion(found["confusion"], SCALE.names),  # type: ignore[arg-type]
        plots.reliability(found),
        plots.grades(found),
        plots.rules(found["rules"]),  # type: ignore[arg-type]
        plots.step_curves({"loss": ([0.0, 1.0], [2.0, 1.0])}),
        plots.validation_curves({"val": {"qwk": ([1.0], [0.3])}}),
    ]
    assert drawn[1] == plots.reliability(found)
    for svg in drawn:
        assert ET.fromstring(str(svg)).tag.endswith("svg")
    assert plots.step_curves({}) is plots.validation_curves({}) is plots.rules({}) is None


def test_a_page_holds_everything_and_loads_nothing() -> None:
    figures = {"num_pairs": 32, "num_queries": 1, "qwk": 0.87654}
    history = RunHistory(start={"config": {"note": "<script>"}}, steps={"loss": ([0.0, 1.0], [2.0, 1.0])}, tokens=1234)
    history.stages.append(
        {"stage": "easy", "num_rows": 5, "synthetic": 0.5, "long_tail": 0.0, "wrong": 0.0, "difficulty": {"mean": 0.25}}
    )
    page = render_page(
        "Run <x>",
        {"commit": "abc"},
        history,
        [FileReport("set/val", figures, details())],
        {"val": {"quotes_found": 0.99}},
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Run &lt;x&gt;" in page
    for told in ("commit abc", "0.877", "brand-differs", "1,234 tokens", "0.250", "val / quotes_found", "0.990"):
        assert told in page
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page)
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(images) == 5  # steps, confusion, calibration, grades, rules
    assert all(b"<svg" in base64.b64decode(image) for image in images)


def test_a_table_escapes_and_rounds() -> None:
    assert table(["<a>"], [["<b>", 0.12345, None, 3]]) == (
        "<table><tr><th>&lt;a&gt;</th></tr><tr><td>&lt;b&gt;</td><td>0.123</td><td></td><td>3</td></tr></table>"
    )


def test_the_command(tiny_checkpoint: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    write_log(run, step(0, 3.0), step(1, 2.0))
    (run / "checkpoint").symlink_to(tiny_checkpoint)
    assert (run / "checkpoint" / SPEC_FILE).is_file()
    (tmp_path / "explained.json").write_text(json.dumps({"figures": {"val": {"holds": 0.5}}}))
    arguments = [str(run), "--data", str(data_dir / "val.jsonl.gz"), "--max-rows", "40"]
    command.main([*arguments, "--explanations", str(tmp_path / "explained.json")])
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")
    page = (run / "report.html").read_text()
    assert "40 pairs" in page
    assert "val / holds" in page
    command.main([str(run)])
    assert "Confusion" not in (run / "report.html").read_text()
