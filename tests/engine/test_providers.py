"""What an artifact runs on is what was asked for, or an error that says what is missing."""

from pathlib import Path

import onnxruntime
import pytest

from engine.devices import CPU_ONLY, CUDA, RUNS_ON, TENSORRT, choose_device, providers_of
from engine.opening import open_engine
from engine.session import GraphSession
from relevance.artifact import Artifact, Precision, Target, load_artifact
from relevance.errors import ArtifactError

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"
without_cuda = pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA")


def made_for(target: Target, precision: Precision = "fp16") -> Artifact:
    """The tiny artifact, saying that it is something else."""
    tiny = load_artifact(TINY)
    manifest = tiny.manifest.model_copy(update={"target": target, "precision": precision})
    return Artifact(tiny.folder, manifest, tiny.hash, tiny.tokenizer)


@without_cuda
@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_a_provider_that_is_not_built_in_is_an_error_that_names_it_and_its_cure(provider: str) -> None:
    with pytest.raises(ArtifactError, match=f"built without {provider}: install the extra `gpu`"):
        GraphSession(load_artifact(TINY), providers=((provider, {}), *CPU_ONLY))


@without_cuda
@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_an_artifact_for_a_gpu_does_not_fall_back(target: Target) -> None:
    with pytest.raises(ArtifactError, match="built without CUDA"):
        open_engine(made_for(target), "auto" if target == "cuda" else "cuda")


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_auto_is_what_it_was_made_for(target: Target) -> None:
    assert choose_device("auto", target) == target
    for device in RUNS_ON[target]:
        assert choose_device(device, target) == device


@pytest.mark.parametrize(("device", "target"), [("cuda", "cpu"), ("tensorrt", "cpu"), ("tensorrt", "cuda")])
def test_operators_that_a_device_lacks_are_refused_before_anything_is_loaded(device: Target, target: Target) -> None:
    with pytest.raises(ArtifactError, match=f"made for {target} does not run on {device}: .*--target {device}"):
        open_engine(made_for(target), device)


def test_no_bfloat16_on_a_processor() -> None:
    with pytest.raises(ArtifactError, match="bfloat16"):
        open_engine(made_for("cuda", "bf16"), "cpu")


def test_orders_of_preference() -> None:
    assert providers_of("cpu", made_for("cpu", "int8")) == CPU_ONLY
    names = [one if isinstance(one, str) else one[0] for one in providers_of("tensorrt", made_for("tensorrt"))]
    assert names == [TENSORRT, CUDA, *CPU_ONLY]
