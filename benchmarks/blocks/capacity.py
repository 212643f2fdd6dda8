"""Bulk jobs and capacity: what was measured, and what is planned from it."""

from benchmarks.blocks.tables import read_result, source, table


def bulk() -> str:
    """A job that was killed, and its rate."""
    result = read_result("bulk")
    last, bare = result["last_run"], result["in_process_documents_per_s"]
    killed = ", ".join(f"{event['killed']} at unit {event['units_done']}" for event in result["events"])
    once = "every row is there once" if result["every_row_once"] else "NOT every row is there once"
    same = "have the bare engine's very distribution" if result["as_the_bare_engine"] else "DIFFER from the bare engine"
    rows = [
        [
            "the job's last run, engines' start included",
            f"{last['documents_per_s']:.0f}",
            f"{last['tokens_per_s']:.0f}",
        ],
        ["bare engines, before and after", f"{bare['before']:.0f}, {bare['after']:.0f}", ""],
    ]
    return (
        f"{result['rows']:,} pairs, {result['queries']:,} queries, {last['units']} units; engines: {last['engines']}. "
        f"Killed: {killed}. Of {result['rows_out']:,} rows written {once}; {result['rows_compared']:,} compared rows "
        f"{same}. The last run did {last['rows_this_run']:,} rows at "
        f"{100 * result['share_of_in_process']:.0f} % of the bare engines' rate.\n\n"
        + table(["", "documents/s", "tokens/s"], rows)
        + source("bulk")
    )


def capacity() -> str:
    """Knees measured and foretold."""
    result = read_result("capacity")
    rows = [
        [
            str(mix["documents"]),
            f"{mix['slo_ms']:.0f} ms",
            f"{mix['measured_knee_rps']:.1f}",
            f"{mix['simulated_knee_rps']:.1f}",
            f"{100 * mix['error']:+.1f} %",
            f"{1e6 * mix['costs']['seconds_per_token']:.0f} us, {1e3 * mix['costs']['seconds_per_call']:.2f} ms",
            f"{1e3 * mix['costs']['seconds_per_request']:.2f} ms, {1e6 * mix['costs']['seconds_per_document']:.0f} us",
        ]
        for mix in result["mixes"]
    ]
    header = ["documents", "limit", "measured, requests/s", "simulated", "error", "a, b", "front: request, document"]
    return table(header, rows) + source("capacity")


def plans() -> str:
    """The profiles' plans."""
    rows = []
    for plan in read_result("capacity_plans")["plans"]:
        traffic = plan["traffic"]
        if "error" in plan:
            rows.append([plan["name"], f"{traffic['requests_per_second']:,.0f}", plan["error"], *5 * ["-"]])
            continue
        rows.append(
            [
                f"{plan['name']} (`{plan['profile']}`)",
                f"{traffic['requests_per_second']:,.0f}",
                f"{plan['knee_per_engine']:.1f} of {plan['engine_bound']:.1f}",
                f"{plan['p50_ms']:.0f} / {plan['p99_ms']:.0f} ms of {traffic['deadline_ms']:.0f}",
                f"{plan['engines']:,}",
                f"{plan['machines']:,}",
                f"{plan['cost_per_hour']:,.2f}",
                f"{plan['cost_per_million_documents']:.3f}",
            ]
        )
    header = [
        "profile, in `scale/profiles/`",
        "requests/s",
        "knee of its bound, requests/s and engine",
        "p50 / p99 at the planned rate",
    ]
    header += ["engines", "machines, spares included", "$ an hour", "$ a million documents"]
    return table(header, rows) + source("capacity_plans")


def nights() -> str:
    """A thousand million pairs in a night."""
    result = read_result("capacity_plans")
    rows = [
        [
            night["engine"],
            night["source"],
            f"{night['documents_per_s']:,.0f}",
            f"{night['engines']:,}",
            f"{night['hours']:.1f}",
            f"{night['cost']:,.0f}",
        ]
        for night in result["nights"]
    ]
    header = ["engine", "whose rate", "documents/s", f"engines for {result['hours']:.0f} hours", "hours", "$"]
    return table(header, rows) + source("capacity_plans")
