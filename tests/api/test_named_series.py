"""Every series that a page of the docs names is one that the service exports."""

import re
from pathlib import Path

import pytest

from tests.api.conftest import Service

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["tuning.md", "operating.md", "api.md"])
async def test_a_series_that_a_page_names_is_exported(service: Service, page: str) -> None:
    text = (await service.client.get("/metrics")).text
    exported = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | set(re.findall(r"^(\w+)", text, re.MULTILINE))
    named = set(re.findall(r"`(relevance_\w+)", (DOCS / page).read_text(encoding="utf-8")))
    named = {name for name in named if not name.endswith("_")}  # `relevance_shadow_...`: a family of them
    assert named
    assert named - exported == set()
