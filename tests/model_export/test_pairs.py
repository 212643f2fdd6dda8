from pathlib import Path

import pytest

from model_export.errors import ExportError
from model_export.pairs import NUM_GOLDEN_PAIRS, builtin_pairs, golden_pairs, sample_pairs


def test_builtin_pairs_cover_the_awkward_cases() -> None:
    pairs = builtin_pairs()
    assert len(pairs) >= 64
    assert len(set(pairs)) == len(pairs)
    assert any(pair.document == "" for pair in pairs)
    assert any(pair.query == "" for pair in pairs)
    assert max(len(pair.document) for pair in pairs) > 10_000
    assert any(pair.instruction for pair in pairs)
    assert any(not pair.document.isascii() for pair in pairs)


def test_golden_pairs_are_few_and_short() -> None:
    golden = golden_pairs(builtin_pairs())
    assert len(golden) == NUM_GOLDEN_PAIRS
    assert max(len(pair.document) for pair in golden) <= 400


def test_a_sample_is_seeded_and_keeps_the_builtin_pairs(tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_text("".join(f'{{"query": "q{i}", "document": "d", "grade": 1}}\n' for i in range(100)))
    builtin = builtin_pairs()
    first, again = (sample_pairs([path], len(builtin) + 10, seed=1) for _ in range(2))
    assert first == again
    assert first[: len(builtin)] == builtin
    assert len(set(first)) == len(builtin) + 10
    assert first != sample_pairs([path], len(builtin) + 10, seed=2)
    assert len(sample_pairs([path], 10_000, seed=1)) == len(builtin) + 100
    few = sample_pairs([path], 20, seed=1)
    assert len(few) == 20
    assert set(few) <= set(builtin)


@pytest.mark.parametrize(("content", "where"), [("{}\n", ":1:"), ('{"query": "a", "document": "b"}\nno\n', ":2:")])
def test_a_bad_row_is_named(tmp_path: Path, content: str, where: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(ExportError, match=f"bad.jsonl{where}"):
        sample_pairs([path], 100, seed=0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="gone"):
        sample_pairs([tmp_path / "gone.jsonl"], 100, seed=0)
