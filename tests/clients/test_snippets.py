"""Every block of Python in docs/integrations.md does what the page says: same documents, same scores, best first."""

import importlib.metadata
import re
from pathlib import Path

import httpx
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^<!-- ([\w-]+) -->\n```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
ROWS = re.findall(
    r"^\| ([\w-]+) \| ([\d., ]+) \| `.*` \| `(.*)` \| `test_snippets\[([\w-]+)\]` \|$", PAGE, re.MULTILINE
)
CLIENTS = {name: (package, versions.split(", ")) for package, versions, _, name in ROWS}
QUERY = "usb c cable"
DOCUMENTS = ["HDMI cable", "USB-C to USB-C 1 m", "wool socks"]


def test_every_snippet_has_a_row_and_every_row_a_snippet() -> None:
    assert sorted(SNIPPETS) == sorted(CLIENTS)
    assert PAGE.count("```python") == len(SNIPPETS) >= 19
    assert PAGE.count("| `test_snippets[") == len(CLIENTS)


@pytest.fixture
def expected(service_url: str) -> list[tuple[str, float]]:
    answer = httpx.post(f"{service_url}/score", json={"query": QUERY, "documents": DOCUMENTS}).json()
    scores = [(DOCUMENTS[result["index"]], result["score"]) for result in answer["results"]]
    return sorted(scores, key=lambda item: -item[1])


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets(name: str, service_url: str, expected: list[tuple[str, float]]) -> None:
    package, versions = CLIENTS[name]
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is in the other environment")
    assert installed in versions, f"{package} {installed} is not the version in the table"
    source = SNIPPETS[name]
    assert "http://localhost:8080" in source
    variables: dict[str, object] = {}
    exec(compile(source.replace("http://localhost:8080", service_url), name, "exec"), variables)
    ranking = variables["ranking"]
    assert isinstance(ranking, list)
    top = 2 if re.search(r"top_[nk]=2", source) else 3
    assert [text for text, _ in ranking] == [text for text, _ in expected[:top]]
    # 1e-6: the service sums in another order when it packs otherwise.
    assert [score for _, score in ranking] == pytest.approx([score for _, score in expected[:top]], abs=1e-6)
