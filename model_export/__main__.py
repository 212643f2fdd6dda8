"""Turn a checkpoint into an artifact a server can run.

    python -m model_export CHECKPOINT OUT --precision int8
    python -m model_export CHECKPOINT OUT --target cuda --precision bf16
    python -m model_export CHECKPOINT OUT --target tensorrt

CHECKPOINT is a Hugging Face folder or hub id (Qwen3 of any size, or the BERT-shaped decoder that `training`
makes). OUT appears only if the exported graph agrees with the checkpoint; else the exit status is 1.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from engine.tensorrt import trtexec_line
from model_export.errors import ExportError
from model_export.parity import DEFAULT_THRESHOLDS, Thresholds
from model_export.publish import ExportOptions, export
from relevance.artifact import GRAPH_FILE, Precision, Target
from relevance.errors import RelevanceError
from relevance.provenance import command_line

PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "cpu": ("int8", "int4", "fp32"),
    "cuda": ("fp16", "bf16", "fp32"),
    "tensorrt": ("fp16", "bf16", "fp32"),
}
"""What each target takes, its default first."""


def parse(arguments: Sequence[str]) -> ExportOptions:
    """Options from the command line; argparse exits on what it cannot read."""
    parser = argparse.ArgumentParser(prog="python -m model_export", description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="Hugging Face folder or hub id, e.g. Qwen/Qwen3-0.6B")
    parser.add_argument("out", metavar="OUT", type=Path, help="artifact folder to write; an artifact there is replaced")
    parser.add_argument("--target", choices=tuple(PRECISIONS), help="default: cpu; cuda where the precision is a GPU's")
    precisions = tuple(dict.fromkeys(one for known in PRECISIONS.values() for one in known))
    parser.add_argument("--precision", choices=precisions, help="default: int8 on cpu, else fp16")
    parser.add_argument("--name", help="name in the manifest; default: the checkpoint's")
    parser.add_argument("--spec", metavar="NAME_OR_FILE", help="scoring spec: a preset, or a .json file")
    parser.add_argument("--pairs", metavar="FILE", type=Path, nargs="+", default=[], help="more pairs for the gate")
    parser.add_argument("--num-parity-pairs", metavar="N", type=int, default=200, help="at most so many (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of pairs")
    parser.add_argument(
        "--threshold",
        metavar="PRECISION.FIGURE=VALUE",
        action="append",
        default=[],
        help=f"override the gate, e.g. int8.kendall_tau=0.9; figures: {', '.join(asdict(DEFAULT_THRESHOLDS['fp32']))}",
    )
    found = parser.parse_args(arguments)
    if found.num_parity_pairs < 16:
        parser.error("--num-parity-pairs: fewer than 16 pairs prove nothing")
    target: Target = found.target or ("cuda" if found.precision in ("fp16", "bf16") else "cpu")
    precision = found.precision or PRECISIONS[target][0]
    if precision not in PRECISIONS[target]:
        parser.error(f"--precision {precision}: the target {target} takes {', '.join(PRECISIONS[target])}")
    try:
        thresholds = override_thresholds(found.threshold)
    except ValueError as error:
        parser.error(f"--threshold: {error}")
    return ExportOptions(
        checkpoint=found.checkpoint,
        out=found.out,
        precision=precision,
        target=target,
        command=command_line("model_export", arguments),
        thresholds=thresholds,
        name=found.name,
        spec=found.spec,
        pair_files=tuple(found.pairs),
        num_pairs=found.num_parity_pairs,
        seed=found.seed,
    )


def override_thresholds(settings: Sequence[str]) -> dict[str, Thresholds]:
    """The default thresholds with `PRECISION.FIGURE=VALUE` settings applied; ValueError names a bad one."""
    thresholds = dict(DEFAULT_THRESHOLDS)
    for setting in settings:
        where, _, value = setting.partition("=")
        precision, _, figure = where.partition(".")
        if precision not in thresholds or figure not in asdict(thresholds[precision]):
            raise ValueError(f"{setting!r} is not PRECISION.FIGURE=VALUE")
        thresholds[precision] = replace(thresholds[precision], **{figure: float(value)})
    return thresholds


def main(arguments: Sequence[str]) -> int:
    """Export; 0 if an artifact was published."""
    options = parse(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)  # a library sets INFO on import
    logging.getLogger("model_export").setLevel(logging.INFO)
    try:
        manifest = export(options)
    except (ExportError, RelevanceError) as error:
        print(f"not published: {error}", file=sys.stderr)
        return 1
    num_bytes = sum(entry.num_bytes for entry in manifest.files.values())
    print(f"{options.out}: {manifest.name}, {manifest.target}, {manifest.precision}, {num_bytes / 1e6:.1f} MB")
    if manifest.profiles:
        print("to see that TensorRT builds it, or how fast it is without ONNX Runtime, run where TensorRT is:")
        print(trtexec_line(str(options.out / GRAPH_FILE), manifest.graph, manifest.profiles[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
