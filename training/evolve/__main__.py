"""Evolve the rule book where model and gold disagree, and keep what improves agreement on validation.

    python -m training.evolve configs/training/evolve.toml --data-dir DIR --run runs/evolve [--result FILE]

A round finds the rules with the largest disagreement on training pairs, gets proposals for them (from the configured
endpoint, or from the built-in mutator), trains the incumbent briefly with and without each, and keeps a proposal if the
gain in validation agreement is not noise. The same command goes on where a run stopped. Last line: JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from relevance.provenance import command_line, write_result
from training.endpoint import EndpointError
from training.evolve.config import EvolveConfig
from training.evolve.loop import EvolutionRun


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of an evolution; 1 where the endpoint cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--result", type=Path, help="write the rounds as a results file")
    args = parser.parse_args(argv)
    config = EvolveConfig.from_toml(args.config)
    run = EvolutionRun(config, args.data_dir, args.run)
    try:
        records = run.run()
    except EndpointError as error:
        print(f"stopped after {len(run.records)} rounds: {error}", file=sys.stderr)
        return 1
    for record in records:
        for proposal in record["proposals"]:
            gain, p = proposal["over_control"]["difference"], proposal["over_control"]["p"]
            print(
                f"round {record['round']} {proposal['rule']:<24}{proposal['kind']:<8} {gain:+.4f} over the control "
                f"(p {p:.4f}){'  kept' if proposal['kept'] else ''}"
            )
    if args.result is not None:
        command = command_line("training.evolve", sys.argv[1:] if argv is None else argv)
        figures = {"level": config.proposal_level, "config": config.model_dump(), "rounds": records}
        write_result(args.result, command, figures, ("numpy", "torch", "transformers"))
    final = records[-1] if records else None
    print(json.dumps({"rounds": len(records), "book_version": final["book_version"] if final else None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
