"""The benchmark of the products' limit: the weights of the model, counted by hand, and the whole command."""

import json
from pathlib import Path

import pytest

from benchmarks import limit
from benchmarks.product_graph import Products
from relevance.artifact import load_artifact
from relevance.errors import ArtifactError

# qwen3-tiny: 2 layers of width 64, 4 query and 2 KV heads of 16, inner width 128.
QUERY, KV, OUT, INNER = 64 * 64, 64 * 32, 64 * 64, 64 * 128
LAYER = QUERY + 2 * KV + OUT + 3 * INNER


def test_every_layers_products_are_there_and_the_head_is_not(qwen_int8: Path) -> None:
    products = Products(load_artifact(qwen_int8), num_threads=1)
    assert products.num_weights == 2 * LAYER
    assert sum(size * width for size, width in products.shapes) == 2 * LAYER
    assert len(products.shapes) == 2 * 7


def test_the_last_layer_goes_on_with_what_is_read_only(qwen_int8: Path) -> None:
    products = Products(load_artifact(qwen_int8), num_threads=1)
    assert products.num_late_weights == LAYER - 2 * KV
    assert products.num_operations(10, 3) == 2 * (10 * (LAYER + 2 * KV) + 3 * (LAYER - 2 * KV))
    rows = {name: values.shape for name, values in products.feed(10, 3).items()}
    assert rows == {"rows_64": (10, 64), "rows_128": (10, 128), "read_64": (3, 64), "read_128": (3, 128)}
    products.run(products.feed(10, 3))


def test_other_models_are_refused(qwen_fp32: Path, bert_int8: Path) -> None:
    for folder in (qwen_fp32, bert_int8):
        with pytest.raises(ArtifactError, match="Qwen3 at int8"):
            Products(load_artifact(folder), num_threads=1)


def test_the_command_measures_and_writes(qwen_int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "limit.json"
    limit.main(["--artifact", str(qwen_int8), "--quick", "--threads", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    assert [row["pack"] for row in result["packs"]] == list(limit.PACK_TOKENS)
    assert [row["workload"] for row in result["workloads"]] == list(limit.QUICK_WORKLOADS)
    for row in (*result["packs"], *result["workloads"]):
        assert 0.0 < row["share_range"][0] <= row["share"] <= row["share_range"][1]
    shares = json.loads(capsys.readouterr().out.splitlines()[-1])["share"]
    assert shares.keys() == {"128", "256", "512", *limit.QUICK_WORKLOADS}


def test_a_workloads_packs_are_all_its_tokens(qwen_int8: Path) -> None:
    artifact = load_artifact(qwen_int8)
    bench = limit.Bench(artifact, num_threads=1)
    (workload,) = [one for one in limit.build_workloads(artifact, [3], None) if one.name == "short x 3"]
    _, packs = bench.workload(workload, pack_tokens=32)
    assert sum(num_tokens for num_tokens, _ in packs) == workload.num_tokens
    assert sum(num_read for _, num_read in packs) == 1 + 3
