"""Blocks about replicas on Ray Serve: throughput, routing, and what a kill and scaling did."""

from collections.abc import Mapping

from benchmarks.blocks.tables import ROOT, read_result, source, table

NOT_YET = "Not yet measured: `python -m benchmarks.replicas`, about four minutes.\n"


def replicas() -> str:
    """Scores and documents a second by number of replicas."""
    if not _is_measured():
        return NOT_YET
    result = read_result("replicas")
    cores = result["machine"]["cores"]
    first = result["throughput"][0]["documents_per_s"]
    rows = [
        [
            str(row["replicas"]),
            _sameness(row["scores"]),
            f"{row['documents_per_s']:.0f} ({min(row['documents_per_s_of_rounds']):.0f})",
            f"{row['documents_per_s'] / first:.2f}",
            str(min(row["replicas"], cores)),
            f"{row['p50_ms']:.0f} ms",
            f"{row['alone_p50_ms']:.1f} ms",
            f"{row['elsewhere']:.0%}",
        ]
        for row in result["throughput"]
    ]
    lead = (
        f"One engine thread a replica, {result['clients']} clients that ask one thing after the other, "
        f"{result['documents_a_request']} documents a request, clients and Ray on the same {cores} cores.\n\n"
    )
    header = [
        "replicas",
        "scores, each replica against one process",
        "documents a second, best round (worst)",
        "times one replica",
        "cores it could use",
        "median",
        "median of one client",
        "processor used by others",
    ]
    return lead + table(header, rows) + source("replicas")


def _sameness(scores: Mapping[str, float]) -> str:
    if scores["equal_to_the_bit"]:
        return "equal to the bit"
    return f"within {scores['largest_difference']:.1e}"


def replica_routing() -> str:
    """Routing by query beside Serve's own rule."""
    if not _is_measured():
        return NOT_YET
    result = read_result("replicas")
    rows = [
        [name, f"{row['prefix_hit_share']:.0%}", f"{row['documents_per_s']:.0f}", str(row["requests"])]
        for name, row in result["routing"].items()
    ]
    lead = (
        f"Two replicas, {result['queries']} queries, each asked for as often as its rank's inverse, with "
        f"{result['routed_documents_a_request']} new documents every time; room for {result['prefix_cache_mib']} MiB "
        "of KV a replica.\n\n"
    )
    header = ["routed", "queries whose KV was there or on its way", "documents a second", "requests"]
    return lead + table(header, rows) + source("replicas")


def replica_faults() -> str:
    """A kill, and more and fewer replicas, under load."""
    if not _is_measured():
        return NOT_YET
    result = read_result("replicas")
    killed, scaled = result["kill"], result["scaling"]
    steps = ", ".join(f"{number} at {at_s:.0f} s" for at_s, number in scaled["replicas_at_s"])
    return (
        f"**A replica killed** (SIGKILL, one of two, {killed['clients']} clients): {_said(killed['statuses'])} of "
        f"{killed['requests']} requests; {killed['clear_retryable_errors']} were 503 `not_ready` with `Retry-After`. "
        f"Two replicas were ready again after {killed['replaced_s']:.0f} s.\n\n"
        f"**Up and down** (1 to 4 replicas, a load that queues, then one that does not): "
        f"{_said(scaled['statuses'])} of {scaled['requests']} requests; replicas ready: {steps}.\n" + source("replicas")
    )


def _is_measured() -> bool:
    return (ROOT / "results" / "replicas.json").is_file()


def _said(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{number} x {status}" for status, number in statuses.items())
