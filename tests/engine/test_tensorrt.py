"""What TensorRT is told. TensorRT itself is not here: the strings are, and they are its documented ones."""

from pathlib import Path

import pytest

from engine.devices import TENSORRT, providers_of
from engine.tensorrt import (
    LEAST,
    MOST,
    UNKNOWN,
    USUAL,
    GpuIdentity,
    cache_folder,
    input_shapes,
    profile_options,
    read_gpu,
    trtexec_line,
)
from relevance.artifact import Artifact, GraphInfo, ShapeProfile, load_artifact

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"
GRAPH = GraphInfo(
    architecture="qwen3", num_layers=1, num_kv_heads=2, head_dim=8, hidden_size=32, vocab_size=99, max_positions=64
)
PROFILES = (
    ShapeProfile(num_tokens=(1, 4, 8), num_past=(1, 2, 9), num_read=(1, 1, 8)),
    ShapeProfile(num_tokens=(9, 16, 32), num_past=(1, 2, 9), num_read=(1, 2, 32)),
)


def test_shapes_of_every_input() -> None:
    assert input_shapes(GRAPH, PROFILES[0], USUAL) == {
        "input_ids": (1, 4),
        "position_ids": (1, 4),
        "attention_bias": (1, 1, 4, 6),
        "output_positions": (1,),
        "past_key_values.0.key": (1, 2, 2, 8),
        "past_key_values.0.value": (1, 2, 2, 8),
        "vocab_rows": (1,),
    }
    late = GRAPH.model_copy(update={"num_encoder_layers": 1})
    assert input_shapes(late, PROFILES[1], MOST)["compared_tokens"] == (32, 32)
    assert input_shapes(late, PROFILES[1], LEAST)["lower_bias"] == (1, 1, 9, 10)


def test_an_input_named_twice_has_two_profiles() -> None:
    options = profile_options(GRAPH, PROFILES)
    assert set(options) == {"trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"}
    assert [part for part in options["trt_profile_max_shapes"].split(",") if part.startswith("input_ids:")] == [
        "input_ids:1x8",
        "input_ids:1x32",
    ]


def test_trtexec_takes_one_profile() -> None:
    line = trtexec_line("out/model.onnx", GRAPH, PROFILES[0])
    assert line.startswith("trtexec --onnx=out/model.onnx ")
    assert "--minShapes=input_ids:1x1,position_ids:1x1,attention_bias:1x1x1x2," in line
    assert "--maxShapes=input_ids:1x8," in line


def write_driver(folder: Path, name: str) -> Path:
    gpu = folder / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 120\n")
    version = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\nGCC version:  13\n"
    )
    (folder / "version").write_text(version)
    return folder


class Library:
    """What ctypes gives of libnvinfer."""

    def getInferLibVersion(self) -> int:
        return 101303


def test_the_gpu_is_what_the_driver_says(tmp_path: Path) -> None:
    folder = write_driver(tmp_path, "NVIDIA H100 80GB HBM3")
    assert read_gpu(folder, lambda _: Library()) == GpuIdentity("NVIDIA H100 80GB HBM3", "580.95.05", "101303")


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    def refuse(name: str) -> Library:
        raise OSError(name)

    assert read_gpu(tmp_path / "nothing", refuse) == GpuIdentity(UNKNOWN, UNKNOWN, UNKNOWN)


H100 = GpuIdentity("NVIDIA H100 80GB HBM3", "580.95.05", "101303")


@pytest.mark.parametrize(
    ("gpu", "artifact_hash"),
    [
        (GpuIdentity("NVIDIA L4", H100.driver, H100.tensorrt), "a" * 64),
        (GpuIdentity(H100.name, "581.0", H100.tensorrt), "a" * 64),
        (GpuIdentity(H100.name, H100.driver, "110000"), "a" * 64),
        (H100, "b" * 64),
    ],
)
def test_another_gpu_driver_tensorrt_or_artifact_builds_anew(gpu: GpuIdentity, artifact_hash: str) -> None:
    first = cache_folder(Path("cache"), H100, "a" * 64)
    assert first == Path("cache/NVIDIA_H100_80GB_HBM3-driver580.95.05-trt101303-aaaaaaaaaaaaaaaa")
    assert cache_folder(Path("cache"), gpu, artifact_hash) != first


def test_float16_is_on_for_float16_alone() -> None:
    tiny = load_artifact(TINY)
    for precision, expected in (("fp16", "True"), ("fp32", "False")):
        update = {"target": "tensorrt", "precision": precision, "profiles": PROFILES}
        artifact = Artifact(tiny.folder, tiny.manifest.model_copy(update=update), tiny.hash, tiny.tokenizer)
        name, options = providers_of("tensorrt", artifact, Path("cache"))[0]
        assert name == TENSORRT
        assert isinstance(options, dict)
        assert options["trt_fp16_enable"] == expected
        assert options["trt_engine_cache_path"].startswith("cache/")
        assert options["trt_engine_cache_path"].endswith(tiny.hash[:16])
