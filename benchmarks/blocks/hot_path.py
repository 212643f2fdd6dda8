"""Where a request's processor time goes."""

from benchmarks.blocks.tables import read_result, source, table


def hot_path() -> str:
    """Shares of model, tokenizer and Python, and the steps that were changed."""
    result = read_result("hot_path")
    kinds = ("model", "engine", "tokenise", "loop")
    rows = [
        [
            str(row["documents"]),
            f"{sum(row['cpu_ms'].values()):.1f} ms",
            *(f"{row['share'][kind]:.1%}" for kind in kinds),
        ]
        for row in result["rows"]
    ]
    header = ["documents", "processor time", "model", "rest of the engine thread", "tokenising threads", "event loop"]
    steps = ", ".join(
        f"{name} {step['us']:.1f} µs (before {step['former_us']:.1f})" for name, step in result["steps"].items()
    )
    return table(header, rows) + f"\nFor each pack: {steps}.\n" + source("hot_path")
