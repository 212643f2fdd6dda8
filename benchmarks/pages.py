"""The generated parts of the pages: figures from `results/`, the module table from docstrings.

    python -m benchmarks.pages            # rewrite the marked blocks
    python -m benchmarks.pages --check    # exit 1 if a block is stale

A block stands between `<!-- generated:NAME -->` and `<!-- /generated -->`; NAME is a key of `BLOCKS`, whose functions
lie in `benchmarks/blocks/`. Nothing in a block is typed in by hand.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from benchmarks.blocks import (
    arms,
    capacity,
    code,
    explain,
    explanations,
    handles,
    hot_path,
    limits,
    load,
    load_test,
    operations,
    peers,
    quality,
    replicas,
    rules,
    speed,
)
from benchmarks.blocks.tables import ROOT

PAGES = (
    "README.md",
    "docs/numbers.md",
    "docs/architecture.md",
    "docs/api.md",
    "docs/arms.md",
    "docs/bulk.md",
    "docs/capacity.md",
    "docs/curriculum.md",
    "docs/evolution.md",
    "docs/explain.md",
    "docs/explanations.md",
    "docs/export.md",
    "docs/loadtest.md",
    "docs/operating.md",
    "docs/peers.md",
    "docs/scale.md",
    "artifacts/default/README.md",
)
_BLOCK = re.compile(r"(<!-- generated:(\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)

BLOCKS: dict[str, Callable[[], str]] = {
    "quality": quality.quality,
    "everyday": quality.everyday,
    "baselines": quality.baselines,
    "teacher_student": quality.teacher_student,
    "cross_encoder": quality.cross_encoder,
    "calibration": quality.calibration,
    "parity": quality.parity,
    "engine": speed.engine,
    "peers_student": peers.peers_student,
    "peers_qwen": peers.peers_qwen,
    "peers_http": peers.peers_http,
    "peers_claim": peers.peers_claim,
    "criteria_agreement": explanations.criteria_agreement,
    "grammar": explanations.grammar,
    "explained": explanations.explained,
    "rule_coverage": rules.rule_coverage,
    "synthesis": rules.synthesis,
    "evolution": rules.evolution,
    "curriculum": rules.curriculum,
    "arms": arms.arms,
    "arms_change": arms.arms_change,
    "arms_anchor": arms.arms_anchor,
    "arms_rules": arms.arms_rules,
    "arms_grades": arms.arms_grades,
    "arms_answers": arms.arms_answers,
    "bulk": capacity.bulk,
    "capacity": capacity.capacity,
    "capacity_plans": capacity.plans,
    "capacity_nights": capacity.nights,
    "modules": code.modules,
    "errors": code.errors,
    "workers": operations.workers,
    "soak": operations.soak,
    "replicas": replicas.replicas,
    "replica_routing": replicas.replica_routing,
    "replica_faults": replicas.replica_faults,
    "explain_load": explain.explain_load,
    "explain_pairs": explain.explain_pairs,
    "overload": load.overload,
    "loadtest": load_test.loadtest,
    "loadtest_agreement": load_test.loadtest_agreement,
    "overhead": load.overhead,
    "handles": handles.handles,
    "hot_path": hot_path.hot_path,
    "growth": limits.growth,
    "limit": limits.limit,
    "precisions": limits.precisions,
}


def render(text: str) -> str:
    """`text` with every block made anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}{match[3]}", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the pages; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    stale = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        fresh = render(text)
        if fresh != text:
            stale.append(page)
            if not args.check:
                path.write_text(fresh, encoding="utf-8")
    print(("stale: " if args.check else "rewritten: ") + (", ".join(stale) or "none"))
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
