"""Blocks about explanations as they are served: what they cost, and whether they hold."""

from benchmarks.blocks.tables import read_result, source, table

PARTS = {"resumed": "resumed, alone", "computed": "pair computed once more, alone", "among_32": "resumed, 32 at once"}


def explain_load() -> str:
    """Scores beside explanations, rates, and what held KV is worth."""
    result = read_result("explain")
    settings, first = result["settings"], result["first_tokens"]
    beside = [
        [
            number,
            str(one["sent"]),
            f"{one['p50_ms']:.1f} ms",
            f"{one['p99_ms']:.1f} ms",
            f"{one['p99_to_idle']:.2f}" + _interval(one["p99_to_idle_95"]),
            f"{one['explanation_tokens_per_s']:.0f}",
        ]
        for number, one in result["scores"].items()
    ]
    rates = [
        [workers, number, f"{rate:.0f}", f"{one['to_one'][number]:.2f}", f"{one['resumed_share']:.0%}"]
        for workers, one in result["rates"].items()
        for number, rate in one["tokens_per_s"].items()
    ]
    alone = [
        [number, *(part for one in (short, result["engine"]["long"][number]) for part in _decoded(one))]
        for number, short in result["engine"]["pairs"].items()
    ]
    milliseconds = first["median_ms"]
    return (
        f"`/score` of {settings['documents']} documents, Poisson, at {settings['load']:.0%} of saturation "
        f"({result['offered_rps']:.1f} requests a second), while so many explanations are under way all the time:\n\n"
        + table(["explanations", "requests", "p50", "p99", "p99 to none", "their tokens/s"], beside)
        + "\nNothing else to do, as one client of the service sees it:\n\n"
        + table(["workers", "explanations", "tokens/s, all together", "to one", "resumed"], rates)
        + "\nThe engine alone, one thread, explanations of the same pairs and of long ones "
        + f"({first['prompt_tokens']} tokens):\n\n"
        + table(
            ["explanations", *(f"{name}{of}" for of in ("", ", long") for name in ("tokens/s", "to one", "step"))],
            alone,
        )
        + f"\nFirst tokens on a pair of {first['prompt_tokens']} tokens, median of {first['pairs']}: "
        f"{milliseconds['resumed']:.1f} ms from held KV, {milliseconds['computed_once_more']:.1f} ms where the pair is "
        f"computed once more ({first['resumed_to_computed']:.2f}).\n" + source("explain")
    )


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f" ({bounds[0]:.2f} to {bounds[1]:.2f})"


def _decoded(one: dict[str, float]) -> list[str]:
    return [f"{one['tokens_per_s']:.0f}", f"{one['to_one']:.2f}", f"{one['step_ms']:.1f} ms"]


def explain_pairs() -> str:
    """What holds of explanations of real pairs."""
    result = read_result("explain_pairs")
    figures = result["figures"]
    rows = []
    for way, name in PARTS.items():
        one = figures[way]
        found = "-" if one["quotes_found"] is None else f"{one['quotes_found']:.2%}"
        shares = (f"{one[key]:.2%}" for key in ("verdict", "first", "holds"))
        rows.append([name, str(one["pairs"]), *shares, str(one["quotes"]), found])
    header = [
        "computed",
        "pairs",
        "verdict is the grade",
        "first token is its label",
        "all holds",
        "quotes",
        "quotes found",
    ]
    return (
        table(header, rows) + f"\nPairs of {result['data']}. All three ways said the same in {figures['same']:.1%} of "
        f"pairs; held afterwards: {figures['held_afterwards']} bytes, streams and pins.\n" + source("explain_pairs")
    )
