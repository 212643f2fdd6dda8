"""Every block of Python in docs/integrations.md does what the page says: same documents, same scores, best first."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import httpx
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^<!-- ([\w-]+) -->\n```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
ROWS = re.findall(
    r"^\| ([\w-]+) \| ([\d., ]+) \| `.*` \| `(.*)` \| `test_snippets\[([\w-]+)\]` \|$", PAGE, re.MULTILINE
)
CLIENTS = {name: (package, versions.split(", ")) for package, versions, _, name in ROWS}
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, dict[str, str]] = {
    extra: dict(one.split("==") for one in PROJECT["optional-dependencies"][extra])
    for extra in ("clients", "clients-apart")
}
QUERY = "usb c cable"
DOCUMENTS = ["HDMI cable", "USB-C to USB-C 1 m", "wool socks"]


def test_every_snippet_has_a_row_and_every_row_a_snippet() -> None:
    assert sorted(SNIPPETS) == sorted(CLIENTS)
    assert PAGE.count("```python") == len(SNIPPETS) >= 19
    assert PAGE.count("| `test_snippets[") == len(CLIENTS)


def installed(package: str) -> str | None:
    """The version that is installed, None if it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_every_client_is_in_an_extra_at_a_version_of_the_table() -> None:
    pinned = {(package, version) for extra in EXTRAS for package, version in EXTRAS[extra].items()}
    listed = {(package, version) for package, versions in CLIENTS.values() for version in versions}
    assert listed <= pinned, "a client of the table that no environment installs"


def test_what_an_extra_pins_is_installed_whole() -> None:
    """So that no client is skipped in both environments."""
    mine = [extra for extra in EXTRAS if EXTRAS[extra]["cohere"] == installed("cohere")]
    if not mine:
        pytest.skip("no clients here: make test-clients")
    assert {package: installed(package) for package in EXTRAS[mine[0]]} == EXTRAS[mine[0]]


@pytest.fixture
def expected(service_url: str) -> list[tuple[str, float]]:
    answer = httpx.post(f"{service_url}/score", json={"query": QUERY, "documents": DOCUMENTS}).json()
    scores = [(DOCUMENTS[result["index"]], result["score"]) for result in answer["results"]]
    return sorted(scores, key=lambda item: -item[1])


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets(name: str, service_url: str, expected: list[tuple[str, float]]) -> None:
    package, versions = CLIENTS[name]
    if installed(package) is None:
        pytest.skip(f"{package} is not installed here: make test-clients")
    assert installed(package) in versions
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
