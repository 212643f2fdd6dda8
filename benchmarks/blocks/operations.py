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
