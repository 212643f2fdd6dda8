"""What the pages say of the client runs as it stands there."""

import re
from pathlib import Path

import pytest

from tests.api.test_program import running

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "clients/python/README.md"])
def test_the_samples_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    samples = [block for block in blocks if "answer_first_client" in block]
    assert samples
    with running() as program:
        for sample in samples:
            exec(compile(sample.replace("http://localhost:8080", program.url), page, "exec"), {})
    shown = capsys.readouterr().out
    assert "cable" in shown
    assert re.search(r"\d\.\d+", shown)
