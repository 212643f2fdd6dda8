"""Plans of the profiles in scale/profiles/, and of a night's job over 10^9 pairs: on paper, nothing is run.

    python -m benchmarks.capacity_plans        results/capacity.json, results/bulk.json -> results/capacity_plans.json

Two minutes of simulation. The rates of GPUs are other people's figures, named beside them; prices are assumptions.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.blocks.tables import read_result
from benchmarks.served import ROOT
from relevance.provenance import command_line, write_result
from scale.capacity import make_plan
from scale.capacity_errors import CapacityError
from scale.capacity_profile import load_profile

PAIRS, HOURS = 1_000_000_000, 8.0
JOB_SHARE = 0.9
"""What a job makes of its engines' bare rate: the aim of results/bulk.json."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one engine is, and who says so."""

    engine: str
    source: str
    documents_per_s: float
    price_per_hour: float
    """Of one engine: an assumption."""


GPUS = (
    Rate("0.6B on an H100", "SGLang's scoring of 300-token items, P99 <= 500 ms", 1000.0, 3.0),
    Rate("0.6B ranker on an H100", "LinkedIn on SGLang with in-batch prefix reuse, P99 < 500 ms", 2200.0, 3.0),
)


def night(rate: Rate, pairs: int = PAIRS, hours: float = HOURS, share: float = JOB_SHARE) -> dict[str, Any]:
    """Engines that score `pairs` within `hours`, and what that costs."""
    engines = math.ceil(pairs / (hours * 3600 * rate.documents_per_s * share))
    took = pairs / (engines * rate.documents_per_s * share) / 3600
    cost = engines * took * rate.price_per_hour
    return {**asdict(rate), "engines": engines, "hours": round(took, 2), "cost": round(cost, 2)}


def embedded() -> Rate:
    """The default, on a core as results/bulk.json measured it."""
    bulk = read_result("bulk")
    bare = bulk["in_process_documents_per_s"]
    rate = (bare["before"] + bare["after"]) / 2 / bulk["last_run"]["engines"]
    return Rate("embedded default on a logical core", "results/bulk.json", round(rate, 1), 0.05)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", type=Path, default=ROOT / "scale" / "profiles")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "capacity_plans.json")
    args = parser.parse_args(argv)
    plans = []
    for path in sorted(args.profiles.glob("*.toml")):
        profile = load_profile(path)
        plans.append({"profile": path.name, "name": profile.name, "traffic": profile.traffic.model_dump()})
        try:
            plans[-1] |= make_plan(profile).to_json()
        except CapacityError as error:  # as measured here the deadline cannot be kept: that is an answer, too
            plans[-1]["error"] = str(error)
        print(json.dumps(plans[-1]), file=sys.stderr)
    nights = [night(rate) for rate in (*GPUS, embedded())]
    figures = {"plans": plans, "pairs": PAIRS, "hours": HOURS, "share_of_bare_rate": JOB_SHARE, "nights": nights}
    write_result(args.out, command_line("benchmarks.capacity_plans", argv or sys.argv[1:]), figures, ("numpy",))
    print(json.dumps({plan["profile"]: plan.get("machines") for plan in plans}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
