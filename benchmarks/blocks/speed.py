"""Speed: the engine's ways of scoring."""

from benchmarks.blocks.tables import read_result, source, table


def engine() -> str:
    """Packed against the other ways, the default on a CPU."""
    result = read_result("bench_engine")
    rows = []
    for row in result["rows"]:
        ratio, median = row["ratio_to_packed"], row["median_ms"]
        rows.append(
            [
                row["workload"],
                str(row["num_tokens"]),
                f"{median['packed']:.1f} ms",
                f"{ratio['packed_warm']:.2f}",
                f"{ratio['one_by_one']:.2f}",
                f"{ratio['padded']:.2f}",
            ]
        )
    header = ["documents", "tokens", "packed", "prefix held", "one by one", "padded batches"]
    return table(header, rows) + source("bench_engine")
