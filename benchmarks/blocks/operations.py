"""Blocks about running the service: workers, and the soak."""

from benchmarks.blocks.tables import read_result, source, table


def workers() -> str:
    """Processes and threads on this machine's cores."""
    rows = [
        [
            f"{row['workers']} x {row['threads']}",
            str(row["num_documents"]),
            f"{row['documents_per_s']:.0f} ({min(row['documents_per_s_of_rounds']):.0f})",
            f"{row['p50_ms']:.0f} ms",
            f"{row['p99_ms']:.0f} ms",
            f"{row['alone_p50_ms']:.1f} ms",
            f"{row['memory_mib']['resident']:.0f} MiB",
            f"{row['elsewhere']:.0%}",
        ]
        for row in read_result("workers")["rows"]
    ]
    header = [
        "workers x threads",
        "documents a request",
        "documents a second, best round (worst)",
        "median of eight clients",
        "p99",
        "median of one client",
        "memory",
        "processor used by others",
    ]
    return table(header, rows) + source("workers")


def soak() -> str:
    """What grew under a long steady load."""
    result = read_result("soak")
    statuses = ", ".join(f"{number} x {status}" for status, number in result["statuses"].items())
    lead = (
        f"{result['minutes']:g} minutes at {result['load_requests_per_s']:.1f} requests a second "
        f"({result['load_requests_per_s'] / result['saturation_requests_per_s']:.0%} of what saturated it): "
        f"{result['num_requests']} requests ({statuses}), median {result['p50_ms']:.0f} ms, "
        f"p99 {result['p99_ms']:.0f} ms. "
        f"Resident memory after the first {result['warm_up_minutes']:g} minutes: "
        f"{result['memory_slope_mib_per_minute']:+.3f} MiB a minute (standard error "
        f"{result['memory_slope_error']:.3f}).\n\n"
    )
    rows = [[f"`{name}`", f"{first:.5g}", f"{last:.5g}"] for name, (first, last) in result["growth"].items()]
    return lead + table(["what", "first third (median)", "last third"], rows) + source("soak")
