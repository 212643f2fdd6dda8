"""Blocks of a committed load test: its loads, where their time went, and whether client and service agree."""

from typing import Any

from benchmarks.blocks.tables import read_result, source, table

STAGES = ("late sending", "outside the service", "tokenise", "queue", "infer", "post", "rest of the service")


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _load(level: dict[str, Any]) -> str:
    return f"{level['clients']} clients" if level["offered_rps"] is None else f"{level['offered_rps']:.1f}/s"


def loadtest() -> str:
    """Every load, and the knee."""
    result = read_result("loadtest")
    knee, mix = result["knee"], result["plan"]["mix"]
    sizes = ", ".join(f"{share:.0%} of {size}" for size, share in mix["documents"].items())
    rows = [
        [
            level["name"],
            _load(level),
            f"{level['goodput_rps']:.1f}/s",
            "-" if level["good_share"] is None else f"{level['good_share']:.1%}",
            f"{level['documents_per_s']:.0f}",
            *(_milliseconds(level["answer_ms"][name]) for name in ("p50", "p95", "p99")),
            str(sum(level["outcomes"].get(name, 0) for name in ("refused", "expired"))),
            _milliseconds(level["late_send_ms"]["p99"]),
        ]
        for level in result["levels"]
    ]
    header = ["load", "offered", "good", "share", "documents/s", "p50", "p95", "p99", "refused or expired"]
    header.append("sent late, p99")
    told = (
        f"The knee is at {knee['offered_rps']:.1f} requests a second ({knee['documents_per_s']:.0f} documents): the "
        f"highest rate at which 95 % were answered whole within {result['slo_ms']:g} ms of when they were due. "
        f"Documents of a request: {sizes}. {result['workers']} workers, and "
        f"{result['plan']['senders']['processes']} sender processes beside them on the same cores.\n\n"
    )
    return told + table(header, rows) + source("loadtest")


def loadtest_agreement() -> str:
    """Client and service on the loads below the knee: stages, and how far apart the two are."""
    levels = [level for level in read_result("loadtest")["levels"] if level["kind"] == "open"]
    rows = [[stage, *(_milliseconds(level["stages_ms"][stage]["mean"]) for level in levels)] for stage in STAGES]
    rows.append(["**an answer, mean**", *(f"**{_milliseconds(level['answer_ms']['mean'])}**" for level in levels)])
    told = [level["agreement"] for level in levels]
    rows.append(["client's median, from sending", *(_milliseconds(one["client_p50_ms"]) for one in told)])
    rows.append(["service's median, `Server-Timing`", *(_milliseconds(one["service_p50_ms"]) for one in told)])
    rows.append(["median difference", *(f"{one['difference_p50_ms']:.2f} ms" for one in told)])
    rows.append(["below 5 % or 1 ms", *(_word(one["times_agree"]) for one in told)])
    both = (f"{one['mean_ms_by_answers']:.1f}, {one['mean_ms_by_metrics']:.1f} ms" for one in told)
    rows.append(["mean of `total`: by answers, by `/metrics`", *both])
    rows.append(["the same counts by outcome", *(_word(one["counts_agree"]) for one in told)])
    return table(["", *(level["name"] for level in levels)], rows)


def _word(value: bool) -> str:
    return "yes" if value else "no"
