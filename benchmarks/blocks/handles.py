"""The block about what handles cost a score."""

from benchmarks.blocks.tables import read_result, source, table


def handles() -> str:
    """The same requests without and with them."""
    rows = [
        [
            str(row["documents"]),
            row["kv"],
            f"{row['cpu_ms']['without']:.2f} ms",
            f"{row['cpu_ms']['with']:.2f} ms",
            f"{row['cpu_ratio']:.3f}",
        ]
        for row in read_result("handles")["rows"]
    ]
    header = ["documents", "KV for explanations", "without handles", "with handles", "ratio"]
    said = "Processor time of the service for a request, blocks of requests without and with handles by turns.\n\n"
    return said + table(header, rows) + source("handles")
