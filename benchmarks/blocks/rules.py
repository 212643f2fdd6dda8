"""The rule book, made pairs, evolution and curriculum."""

from typing import Any

from benchmarks.blocks.tables import read_result, source, table

_SETS = ("homedepot/train", "chorus/train", "trecdl/train", "medquad/train")


def rule_coverage() -> str:
    """Pairs each rule applies to and the share in which gold keeps it, by file."""
    figures = read_result("rules")["figures"]
    ids = list(dict.fromkeys(rule for name in _SETS for rule in figures[name]["rules"]))

    def cell(name: str, rule: str) -> str:
        found = figures[name]["rules"].get(rule)
        return "" if found is None else f"{found['num_pairs']} ({found['gold_keeps']:.0%})"

    rows = [[f"`{rule}`", *(cell(name, rule) for name in _SETS)] for rule in ids]
    rows.append(["any", *(f"{figures[name]['covered']:.0%} of {figures[name]['num_pairs']}" for name in _SETS)])
    return table(["rule", *_SETS], rows) + source("rules")


def synthesis() -> str:
    """Pairs per rule before and after, for the rules pairs were made for."""
    result = read_result("synthesis")
    rows = [
        [f"`{rule}`", str(row["before"]), str(row["made_for_it"]), str(row["after"])]
        for rule, row in result["rules"].items()
        if row["made_for_it"]
    ]
    told = f"\n{result['pairs']} pairs, {result['twins']} of them twins.\n"
    return table(["rule", "pairs before", "made for it", "pairs after"], rows) + told + source("synthesis")


def _difference(found: dict[str, Any]) -> str:
    return f"{found['difference']:+.3f} (p {found['p']:.4f})"


def evolution() -> str:
    """Every proposal of every round, and what came of it."""
    result = read_result("evolution")
    rows = []
    for record in result["rounds"]:
        for proposal in record["proposals"]:
            rows.append(
                [
                    str(record["round"]),
                    f"`{proposal['rule']}`",
                    proposal["kind"],
                    ", ".join(f"{count} {kind}" for kind, count in proposal["cases"].items()),
                    f"{proposal['agreement']:.3f}",
                    _difference(proposal["over_control"]),
                    _difference(proposal["over_incumbent"]),
                    "kept" if proposal["kept"] else "",
                ]
            )
    header = ["round", "rule", "proposal", "cases", "kappa", "over the control", "over the incumbent", ""]
    first = result["rounds"][0]["incumbent_agreement"]
    told = f"\nKappa before the first round {first:.3f}; a proposal is kept at p < {result['level']:.4f}, twice.\n"
    return table(header, rows) + told + source("evolution")


def curriculum() -> str:
    """Curriculum and shuffled rows, mean and spread over seeds."""
    result = read_result("curriculum")

    def shown(values: dict[str, float]) -> str:
        return f"{values['mean']:.3f} ± {values['sd']:.3f}"

    rows = [
        [name, figure, *(shown(arms[arm]) for arm in ("curriculum", "shuffled", "difference"))]
        for name, figures in result["figures"].items()
        for figure, arms in figures.items()
    ]
    stages = "; ".join(
        f"{stage['stage']}: {stage['num_rows']} rows, mean difficulty {stage['difficulty']['mean']:.2f}, "
        f"{stage['wrong']:.0%} got wrong"
        for stage in result["stages"]
    )
    told = f"\n{len(result['seeds'])} seeds. Stages of the last: {stages}.\n"
    return table(["file", "figure", "curriculum", "shuffled", "difference"], rows) + told + source("curriculum")
