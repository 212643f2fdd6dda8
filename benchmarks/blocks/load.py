"""Blocks about load: what a service is worth beyond saturation, and what it adds to the model."""

from benchmarks.blocks.tables import read_result, source, table


def overload() -> str:
    """Goodput and times at each load."""
    result = read_result("overload")
    settings = result["settings"]
    rows = []
    for row in result["rows"]:
        outcomes, answered = row["outcomes"], row["answered_ms"]
        rows.append(
            [
                f"{row['load']:g} x" + (", mixed" if row["mixed"] else ""),
                f"{row['offered_rps']:.1f}",
                f"{row['goodput_rps']:.1f}",
                *(str(outcomes.get(name, 0)) for name in ("ok", "partial", "refused", "expired", "cancelled")),
                *(_milliseconds(answered[name]) for name in ("p50", "p99")),
                _milliseconds(row["refused_ms_p99"]),
                f"{row['sent']} = {sum(outcomes.values())}" if row["adds_up"] else "no",
            ]
        )
    header = [
        "load",
        "offered, requests/s",
        "goodput, requests/s",
        "ok",
        "partial",
        "refused",
        "expired",
        "cancelled",
        "answered p50",
        "answered p99",
        "refused p99",
        "adds up",
    ]
    share, timeout_ms = result["goodput_at_highest_load_of_peak"], settings["timeout_ms"]
    return (
        f"Requests of {settings['documents']} documents, Poisson arrivals, one run; each must be answered within "
        f"{timeout_ms} ms of when it was due, of which the service is told {timeout_ms - settings['way_ms']}. "
        f"Saturation is {result['saturation_rps']:.1f} requests a second, and goodput at the highest load is "
        f"{100 * share:.0f} % of its peak. In the mixed row one request in five takes a partial answer and one in ten "
        "hangs up.\n\n" + table(header, rows) + source("overload")
    )


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def overhead() -> str:
    """What HTTP and Python add."""
    rows = []
    for row in read_result("overhead")["rows"]:
        stages, added, share = row["stages_ms_p50"], row["overhead_ms"], row["overhead_share_p50"]
        rows.append(
            [
                str(row["documents"]),
                f"{stages['tokenise'] + stages['infer']:.1f} ms",
                f"{added['service']['p50']:.2f} ms",
                f"{100 * share['service']:.1f} %",
                f"{added['client']['p50']:.2f} ms",
                f"{100 * share['client']:.1f} %",
            ]
        )
    header = ["documents", "tokenise + infer", "added in the service", "share", "added as the client sees it", "share"]
    return "Medians, one request at a time.\n\n" + table(header, rows) + source("overhead")
