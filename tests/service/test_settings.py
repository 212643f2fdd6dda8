"""Settings: flag beats environment beats default; whatever is unknown or does not parse stops the start."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import ENV_PREFIX, InvalidSettingsError, Settings, load_settings

DOCS = Path(__file__).parents[2] / "docs"


# Something else than the default, for what takes no number.
VALUES = {
    "explain_share": "0.5",
    "playground": "false",
    "device": "cuda",
    "host": "0.0.0.0",
    "artifact": "elsewhere",
    "shadow_share": "0.5",
    "log_level": "error",
    "log_format": "json",
    "access_log": "true",
    "public_metrics": "true",
    "cors_origins": '["https://a.example"]',
}


def test_defaults() -> None:
    assert load_settings([]) == Settings()
    assert load_settings([]).host == "127.0.0.1"


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSWER_FIRST_PORT", "1111")
    monkeypatch.setenv("ANSWER_FIRST_MAX_PACK_TOKENS", "128")
    settings = load_settings(["--port", "2222", "--artifact", "some/folder", "--access-log"])
    assert (settings.port, settings.max_pack_tokens, settings.max_documents) == (2222, 128, 1000)
    assert settings.artifact == Path("some/folder")
    assert settings.access_log


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_flag_a_variable_and_a_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Settings.model_fields[name].description
    with pytest.raises(SystemExit) as ended:
        load_settings(["--help"])
    assert ended.value.code == 0
    assert f"--{name.replace('_', '-')}" in capsys.readouterr().out
    value = VALUES.get(name, "7777")
    monkeypatch.setenv(ENV_PREFIX + name.upper(), value)
    assert getattr(load_settings([]), name) != getattr(Settings.model_construct(), name)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "eighty"], "port: .*valid integer.*'eighty'"),
        (["--port", "70000"], "port: .*less than or equal to 65535"),
        (["--max-pack-tokens", "1"], "max_pack_tokens"),
        (["--log-level", "loud"], "log_level"),
        (["--num-threads", "0"], "num_threads"),
        (["--max-documents", "1", "--max-body-bytes", "x"], "max_body_bytes"),
    ],
)
def test_a_value_that_does_not_parse_is_named(arguments: list[str], reason: str) -> None:
    with pytest.raises(InvalidSettingsError, match=reason):
        load_settings(arguments)


@pytest.mark.parametrize("value", ["maybe", "", "2"])
def test_a_truth_value_must_be_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSWER_FIRST_ACCESS_LOG", value)
    with pytest.raises(InvalidSettingsError, match="access_log"):
        load_settings([])


def test_an_unknown_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSWER_FIRST_PROT", "80")
    with pytest.raises(InvalidSettingsError, match="unknown environment variables: ANSWER_FIRST_PROT;"):
        load_settings([])


@pytest.mark.parametrize("arguments", [["--prot", "80"], ["stray"], ["--access-log", "maybe"]])
def test_an_unknown_flag_ends_the_process(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_settings(arguments)
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_tuning_md_has_a_row_for_every_setting_and_no_other() -> None:
    text = (DOCS / "tuning.md").read_text(encoding="utf-8")
    documented = [
        name
        for cell in re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", text, flags=re.MULTILINE)
        for name in re.findall(r"[a-z_]+", cell)
    ]
    assert sorted(documented) == sorted(Settings.model_fields)
