"""Blocks on what bounds the engine: the machine's int8 products, precision, and how cost grows."""

from benchmarks.blocks.tables import ROOT, read_result, source, table


def _is_measured(name: str) -> bool:
    return (ROOT / "results" / f"{name}.json").is_file()


def precisions() -> str:
    """One model at several precisions."""
    if not _is_measured("precisions"):
        return "Size, memory and time beside int8: not yet measured (`python -m benchmarks.precisions INT8 INT4`).\n"
    result = read_result("precisions")
    rows = []
    for row in result["rows"]:
        agreement, loads = row["agreement"], row["workloads"].values()
        rows.append(
            [
                f"{row['name']}, {row['precision']}",
                f"{row['size_mb']:.0f} MB",
                f"{row['own_mib']:.0f} + {row['mapped_mib']:.0f} MiB",
                f"{row['start_s']:.1f} s",
                ", ".join(f"{one['tokens_per_s']} ({one['ratio']:.2f})" for one in loads),
                f"{agreement['mean_difference']:.3f}",
                f"{agreement['grade_flips']:.1%}",
                f"{agreement['kendall_tau']:.3f}",
            ]
        )
    names = ", ".join(result["rows"][0]["workloads"])
    header = ["model", "graphs and weights", "resident: own + mapped", "start to first score"]
    header += [f"tokens/s (time to the first's): {names}", "mean difference from fp32", "flips", "tau"]
    return table(header, rows) + source("precisions")


def limit() -> str:
    """The prefill of the 0.6B shape beside its products alone."""
    if not _is_measured("limit"):
        return "Not yet measured: `python -m benchmarks.limit --artifact ARTIFACT`, about four minutes.\n"
    result = read_result("limit")
    rows = []
    for row in (*result["packs"], *result["workloads"]):
        low, high = row["share_range"]
        rows.append(
            [
                row.get("workload") or f"one pack of {row['pack']} tokens",
                str(row["num_tokens"]),
                str(row["engine_tokens_per_s"]),
                str(row["limit_tokens_per_s"]),
                f"{row['limit_gops']} G op/s",
                f"{row['share']:.0%} ({low:.0%} to {high:.0%})",
            ]
        )
    header = ["documents", "tokens", "engine, tokens/s", "products alone, tokens/s", "products", "share"]
    others, settings = result["others"], result["settings"]
    text = (
        f"\n{result['model']['layers']} layers, {result['num_weights'] / 1e6:.0f} M weights in products, "
        f"{settings['threads']} threads. Packs of {others['pack']} tokens, once more: {others['engine_tokens_per_s']} "
        f"tokens/s; with threads that spin {others['spinning_tokens_per_s']}; two packs at once, a thread each, "
        f"{others['apart_tokens_per_s']}."
    )
    if "torch_products_gops" in others:
        text += f" The same products by PyTorch's int8 kernel: {others['torch_products_gops']} G op/s."
    return table(header, rows) + text + "\n" + source("limit")


def growth() -> str:
    """Time and memory against documents, tokens, prefix and concurrency."""
    if not _is_measured("growth"):
        return "Not yet measured: `python -m benchmarks.growth`, about a minute.\n"
    result = read_result("growth")
    line, error, clients = result["line"], result["line_error"], {row["at"]: row for row in result["clients"]}
    start = result["start"]
    knee, settings = clients[result["knee_clients"]], result["settings"]
    rows = []
    for axis, name in (
        ("documents", "documents of 32 tokens"),
        ("document_tokens", "tokens of each of 8 documents"),
        ("prefix_tokens", "tokens of the prefix of 8 documents of 32"),
    ):
        first, last = result["axes"][axis][0], result["axes"][axis][-1]
        rows.append(
            [
                name,
                f"{first['at']} to {last['at']}",
                f"{first['ms']:.1f} to {last['ms']:.1f} ms",
                f"{first['line_ms']:.1f} to {last['line_ms']:.1f} ms",
                f"{first['memory_mib']:.0f} to {last['memory_mib']:.0f} MiB",
            ]
        )
    text = (
        f"![Time and memory against documents, tokens, prefix and concurrency](images/growth.svg)\n\n"
        f"{result['model']}, {settings['threads']} thread: {line['us_per_token']:.0f} µs a token computed and "
        f"{line['ms_per_call']:.2f} ms a run of the graph, which is {error['median']:.0%} off in the median and "
        f"{error['largest']:.0%} at most, as long as no run is longer than a pack. Over HTTP the knee is at "
        f"{knee['at']} clients: {knee['requests_per_s']:.1f} requests of {settings['documents']} documents a second, "
        f"p50 {knee['p50_ms']:.0f} ms, p99 {knee['p99_ms']:.0f} ms; more clients wait longer and get no more.\n\n"
        f"From the start of a process to its first score {start['start_s']:.2f} s, of which loading takes "
        f"{start['load_s']:.2f} s; resident are then {start['own_mib']:.0f} MiB of its own and "
        f"{start['mapped_mib']:.0f} MiB of mapped files.\n\n"
    )
    header = ["what grows", "from, to", "time", "the line's", "memory above the loaded model"]
    return text + table(header, rows) + source("growth")
