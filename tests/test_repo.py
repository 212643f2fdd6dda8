"""What the repository promises about itself."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from benchmarks.blocks.code import PACKAGES
from benchmarks.pages import PAGES, render

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 55


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_small_tails(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_generated_parts_of_the_pages_are_fresh() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text()
        assert render(text) == text, f"{page} is stale: python -m benchmarks.pages"


def test_the_server_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, service.__main__, service.app; print({'torch', 'transformers', 'onnx'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "set()"


def test_importing_a_package_opens_no_socket_and_reads_no_argument() -> None:
    code = """
import socket, sys
sys.argv = ["x", "--no-such-flag"]
def refuse(*a, **k): raise AssertionError("a socket at import")
socket.socket.connect = refuse
import relevance.artifact, engine.local, service.app, service.__main__, training.config, training.data
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_no_other_distribution_owns_our_package_names() -> None:
    owners = metadata.packages_distributions()
    for package in PACKAGES[:-1]:
        assert set(owners.get(package, ["answer-first"])) == {"answer-first"}


def test_direct_dependencies_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    assert [requirement for requirement in listed if "==" not in requirement] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "artifacts").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
