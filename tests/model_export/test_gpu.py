"""On a machine with a GPU: artifacts made for it run there, and agree with what the processor published.

python -m pytest -m gpu
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from engine.base import DocumentWork
from engine.devices import CUDA, TENSORRT
from engine.local import self_test
from engine.opening import open_engine
from model_export.__main__ import main
from relevance.artifact import Artifact, Precision, Target, load_artifact

pytestmark = pytest.mark.gpu

PREFIXES = ((2, 31, 90), (2, 45, 46, 47, 48))
DOCUMENTS = ((50, 51, 3), (52, 3), (53, 54, 55, 56, 3), (57, 3))


def needs(provider: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(provider not in onnxruntime.get_available_providers(), reason=f"needs {provider}")


WAYS = [
    pytest.param("cuda", "fp32", marks=needs(CUDA)),
    pytest.param("cuda", "fp16", marks=needs(CUDA)),
    pytest.param("cuda", "bf16", marks=needs(CUDA)),
    pytest.param("tensorrt", "fp16", marks=needs(TENSORRT)),
]


def export_for(folder: Path, out: Path, target: Target, precision: Precision) -> Artifact:
    assert main([str(folder), str(out), "--target", target, "--precision", precision]) == 0
    return load_artifact(out)


@pytest.mark.parametrize("backbone", ["qwen", "late"])
@pytest.mark.parametrize(("device", "precision"), WAYS)
def test_a_gpu_gives_the_golden_pairs_what_the_processor_gave(
    backbone: str, device: Target, precision: Precision, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    artifact = export_for(request.getfixturevalue(f"{backbone}_folder"), tmp_path / "out", device, precision)
    engine = open_engine(artifact, device, cache=tmp_path / "cache")
    assert self_test(artifact, engine) <= artifact.manifest.golden_tolerance
    engine.close()


@pytest.mark.parametrize(("device", "precision"), WAYS[:1])
def test_company_does_not_matter_on_a_gpu(
    device: Target, precision: Precision, qwen_folder: Path, tmp_path: Path
) -> None:
    engine = open_engine(export_for(qwen_folder, tmp_path / "out", device, precision), device)
    prefixes = engine.prefill_prefixes(PREFIXES)
    work = [DocumentWork(prefixes[index % 2], ids) for index, ids in enumerate(DOCUMENTS)]
    alone = np.concatenate([engine.score_documents([one]) for one in work])
    assert np.abs(engine.score_documents(work) - alone).max() <= 1e-3
    engine.close()
