"""Ours beside other people's engines: the same weights, prompts and cores, interleaved in one run.

    python -m benchmarks.peers student --data DIR --checkpoint runs/default/checkpoint     results/peers_student.json
    python -m benchmarks.peers qwen --data DIR --tokenizer tokenizer.json                  results/peers_qwen.json
    python -m benchmarks.peers http --data DIR --infinity .venv-bench-http/bin/infinity_emb  results/peers_http.json

student  the default artifact and its checkpoint (checked to be the same weights)
qwen     a 0.6B Qwen3 shape with random weights, made in the work folder when it is not there: its grades mean nothing
http     our service and infinity-emb with a stock cross-encoder of the same size, 100 short documents a request

`--quick` is a smaller run of the same. A peer whose library is missing is skipped, and the result says why. Last
line: JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import http, in_process
from benchmarks.peers.chart import draw_charts
from relevance.provenance import command_line, write_result

ROOT = Path(__file__).parents[2]
PACKAGES = ("numpy", "onnxruntime", "torch", "transformers")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("student", "qwen", "http"))
    parser.add_argument("--data", type=Path, required=True, help="folder with homedepot/, trecdl/ and medquad/")
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "runs" / "default" / "checkpoint")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "peers", help="for graphs and models made on the way"
    )
    parser.add_argument("--shape", default="qwen3-0.6b", help="of the model of `qwen`")
    parser.add_argument("--tokenizer", type=Path, help="a Qwen3 tokenizer.json, to make the model of `qwen`")
    parser.add_argument("--infinity", type=Path, default=ROOT / ".venv-bench-http" / "bin" / "infinity_emb")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--counts", type=int, nargs=3, help="documents: short, medium, long")
    parser.add_argument("--batch-tokens", type=int, nargs="+", help="padded tokens of a batch; several: the fastest")
    parser.add_argument("--memory-gib", type=float, default=10.0)
    parser.add_argument("--only", nargs="+", help="names of peers; ours is always there")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    args = parse(arguments)
    figures: dict[str, Any] = http.run(args) if args.part == "http" else in_process.run(args)
    out = args.out or ROOT / "results" / f"peers_{args.part}.json"
    write_result(out, command_line("benchmarks.peers", arguments), {"part": args.part, **figures}, PACKAGES)
    draw_charts(out.parent, ROOT / "docs" / "images" if args.out is None else out.parent)
    print(json.dumps(figures["ratios"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
