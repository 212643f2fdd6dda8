"""The commands as a person types them: what they say, how they end, and that nothing shows a traceback."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import cli.doctor_command
from cli.app import app, main
from engine.local import LocalScorer
from relevance.pair import Pair
from tests.api.test_program import TINY

ROOT = Path(__file__).parents[2]
COMMANDS = ("serve", "score", "explain", "inspect", "doctor", "bench", "loadtest", "calibrate", "export")
COMMANDS += ("score-dataset", "capacity")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, **options)  # type: ignore[call-overload]


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from cli.app import app
print(CliRunner().invoke(app, ["--help"]).stdout)
print({"numpy", "onnxruntime", "fastapi", "torch", "tokenizers", "pyarrow"} & set(sys.modules))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(re.search(rf"^│ {name} ", shown, re.MULTILINE) for name in COMMANDS)
    assert shown.rstrip().endswith("set()")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "export"])  # whose help takes torch 10 s
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "usage" in shown.lower()
    assert "Traceback" not in shown


def test_scores_are_those_of_the_artifact_best_first() -> None:
    documents = ["HDMI cable", "USB-C to USB-C 1 m", "wool socks"]
    status, out, _ = run("score", "usb c cable", *documents, "--artifact", str(TINY), "--json")
    assert status == 0
    answer = json.loads(out)
    scorer = LocalScorer.open(TINY)
    expected = scorer.distributions([Pair("usb c cable", document) for document in documents])
    scorer.close()
    for result in answer["results"]:
        assert result["distribution"] == pytest.approx(expected[result["index"]].tolist(), abs=1e-6)
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    _, table, _ = run("score", "usb c cable", *documents, "--artifact", str(TINY))
    lines = table.splitlines()
    assert [line.split()[0] for line in lines] == [f"{score:.3f}" for score in scores]
    assert [documents[result["index"]] in line for result, line in zip(answer["results"], lines, strict=True)] == [
        True
    ] * 3


def test_an_explanation_is_whole_and_of_the_grade_that_was_given() -> None:
    pair = ("usb c cable", "USB-C to USB-C cable 1 m")
    status, out, _ = run("explain", *pair, "--artifact", str(TINY), "--json")
    assert status == 0
    told = json.loads(out)
    assert told["explanation"]["verdict"] == told["grade"]
    assert list(told["explanation"]) == [
        "wants",
        "exactness",
        "coverage",
        "topicality",
        "context",
        "evidence",
        "missing",
        "verdict",
    ]
    assert told["usage"]["completion_tokens"] > 8
    status, text, _ = run("explain", *pair, "--artifact", str(TINY))
    assert status == 0
    assert text.splitlines()[0].endswith(f"{told['grade']} {told['grade_name']}")
    assert text.splitlines()[1].split(maxsplit=1) == ["wants", told["explanation"]["wants"]]
    assert text.splitlines()[8].split(maxsplit=1) == ["verdict", told["grade_name"]]


def test_inspect_shows_the_manifest_and_refuses_a_damaged_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run("inspect", str(TINY))
    manifest = json.loads((TINY / "manifest.json").read_text())
    assert status == 0
    assert manifest["name"] in out
    assert "model.onnx" in out
    assert "torch fp32 -> onnx fp32" in out
    status, out, _ = run("inspect", str(TINY), "--json")
    assert json.loads(out)["files"] == manifest["files"]
    broken = tmp_path / "broken"
    shutil.copytree(TINY, broken)
    (broken / "model.onnx").write_bytes(b"x")
    assert main(["inspect", str(broken)]) == 1
    assert re.fullmatch(r"answer-first: .*model\.onnx.*\n", capsys.readouterr().err)


def test_doctor_says_what_to_fix(tmp_path: Path) -> None:
    status, out, _ = run("doctor", str(TINY), "--port", "0")
    assert status == 0
    assert "self-test passed" in out
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, out, _ = run("doctor", str(tmp_path), "--port", str(port), "--json")
    assert status == 1
    found = {one["what"]: one for one in json.loads(out)["findings"]}
    assert {what for what, one in found.items() if one["state"] == "bad"} == {"artifact", "port"}
    assert f"--port {port + 1}" in found["port"]["fix"]
    assert found["artifact"]["fix"]


def test_bench_times_an_artifact() -> None:
    status, out, _ = run("bench", str(TINY), "--documents", "2", "--rounds", "3", "--words", "5")
    assert status == 0
    assert re.search(r"median [\d.]+ ms", out)
    assert re.search(r"a second +\d+ documents, \d+ tokens", out)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["score"], 2, "give a query with documents, or --file"),
        (["score", "q"], 2, "documents behind it"),
        (["score", " ", "d"], 2, "not blank"),
        (["score", "q", "d", "--file", "x.jsonl"], 2, "or --file IN"),
        (["score", "--file", "x.jsonl"], 2, "go together"),
        (["score", "q", "d", "--artifact", "/nowhere"], 1, "is this an artifact folder?"),
        (["score", "--file", "/nowhere.jsonl", "--out", "o.csv", "--artifact", str(TINY)], 1, "/nowhere.jsonl"),
        (["explain", " ", "d"], 2, "not blank"),
        (["inspect", "/nowhere"], 1, "is this an artifact folder?"),
        (["serve", "/nowhere"], 1, "no such artifact folder"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert said.startswith("answer-first: ")
    assert said.count("\n") == 1
    assert message in said


def test_a_bug_is_one_line_too_unless_asked_for_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.checks.CHECKS", [lambda _: 1 / 0])
    assert main(["doctor"]) == 1
    assert (
        capsys.readouterr().err
        == "answer-first: unexpected ZeroDivisionError: division by zero (--traceback shows where)\n"
    )
    with pytest.raises(ZeroDivisionError):
        main(["--traceback", "doctor"])
    assert cli.doctor_command is not None


def test_an_unknown_command_or_option_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["scores"], ["score", "--no-such"], ["bench", "--rounds", "0"]):
        assert main(wrong) == 2
        assert "answer-first" in capsys.readouterr().err


def test_a_file_is_scored_by_the_program_itself(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"query": "usb", "document": "usb cable"}\n{"query": "usb", "document": "socks"}\n')
    arguments = ("score", "-f", str(source), "-o", str(out), "--artifact", str(TINY))
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 rows scored" in done.stdout
    again = command(*arguments)
    assert again.returncode == 1
    assert again.stderr == f"answer-first: {out} is there already: remove it, or name another\n"


def test_a_file_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [json.dumps({"query": f"q {i % 9}", "document": f"usb cable {i} " * 9}) for i in range(1500)]
    source.write_text("\n".join(rows))
    arguments = ["score", "-f", str(source), "-o", str(out), "--artifact", str(TINY)]
    partial = tmp_path / "out.jsonl.partial"
    with subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as one:
        while one.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") > 1):
            pass
        one.send_signal(signal.SIGINT)
        _, said = one.communicate(timeout=60)
    assert one.returncode == 130
    assert re.fullmatch(r"answer-first: stopped after \d+ of 1500 rows; the same command goes on from there\n", said)
    assert not out.exists()
    assert command(*arguments).returncode == 0
    assert [json.loads(line)["document"] for line in out.read_text().splitlines()] == [
        json.loads(row)["document"] for row in rows
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [str(TINY), "--port", "0", "--workers", "2", "--max-documents", "3"],
        ["--max-documents", "3", "--artifact", str(TINY), "--workers", "1", "--port", "0"],
    ],
    ids=["two workers", "flags first"],
)
def test_serve_serves_and_hands_settings_on(arguments: list[str]) -> None:
    script = Path(sysconfig.get_path("scripts")) / "answer-first"
    # The script where it is installed: workers are started from it.
    whole = [str(script)] if script.exists() else [sys.executable, "-m", "cli"]
    with subprocess.Popen([*whole, "serve", *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr)
            url = next(match[1] for line in lines if (match := re.search(r"running on (http://[\d.:]+)", line)))
            next(line for line in lines if "service ready" in line)
            assert httpx.post(f"{url}/score", json={"query": "q", "documents": ["d"] * 3}).status_code == 200
            assert httpx.post(f"{url}/score", json={"query": "q", "documents": ["d"] * 4}).status_code == 422
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_plan_of_a_traffic_is_told_and_a_wrong_profile_is_one_line(tmp_path: Path) -> None:
    profile = tmp_path / "shop.toml"
    profile.write_text(
        "name = 'shop'\n[traffic]\nrequests_per_second = 50\ndeadline_ms = 300\ndocuments = {5 = 1.0}\n"
        "[engine]\nseconds_per_token = 1e-4\nseconds_per_call = 1e-3\n[machine]\nprice_per_hour = 0.5\n"
    )
    status, out, _ = run("capacity", str(profile))
    assert status == 0
    found = re.search(r"^machines +(\d+)$", out, re.MULTILINE)
    assert found
    assert int(found[1]) >= 2
    profile.write_text("name = 'shop'\n[traffic]\ndeadline = 3\n")
    assert main(["capacity", str(profile)]) == 1
