"""Blocks about other people's engines: times beside ours, how far grades are from float32 torch, HTTP against HTTP."""

from typing import Any

from benchmarks.blocks.tables import read_result, source, table


def _times(part: str) -> str:
    result = read_result(f"peers_{part}")
    workloads = list(dict.fromkeys(row["workload"] for row in result["rows"]))
    body = []
    for peer in dict.fromkeys(row["peer"] for row in result["rows"]):
        first = {name: _row(result, name, peer) for name in workloads}
        body.append([peer, *(_cell(row) for row in first.values()), *_agreement(result["peers"][peer])])
    tokens = {row["workload"]: row["tokens"] for row in result["rows"]}
    header = ["", *(f"{name} ({tokens[name]} tokens)" for name in workloads)]
    header += ["mean difference", "grade flips", "memory"]
    told = (
        f"Documents a second, times as long as ours in brackets, p99 behind it; {result['threads']} threads, "
        f"{result['rounds']} interleaved rounds.\n\n"
    )
    return told + table(header, body) + _skipped(result) + source(f"peers_{part}")


def _row(result: dict[str, Any], workload: str, peer: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [r for r in result["rows"] if (r["workload"], r["peer"]) == (workload, peer)]
    return found[0]


def _cell(row: dict[str, Any]) -> str:
    return f"{row['documents_per_s']:.1f} ({row['ratio_to_ours']:.2f}), {row['p99_ms']:.0f} ms"


def _agreement(peer: dict[str, Any]) -> list[str]:
    memory = f"{peer['resident_mib']:.0f} MiB"
    found = peer.get("agreement")
    if found is None:
        return ["-", "-", memory]
    return [f"{found['mean_difference']:.5f}", f"{100 * found['grade_flips']:.1f} %", memory]


def _skipped(result: dict[str, Any]) -> str:
    return "".join(f"\nNot run: {name} ({reason}).\n" for name, reason in result["skipped"].items())


def peers_student() -> str:
    """The default beside others in process."""
    return _times("student")


def peers_qwen() -> str:
    """A 0.6B shape beside others in process."""
    return _times("qwen")


def peers_http() -> str:
    """HTTP against HTTP."""
    result = read_result("peers_http")
    rows = [
        [
            str(row["clients"]),
            row["server"],
            f"{row['documents_per_s']:.0f}",
            f"{row['p50_ms']:.0f} ms",
            f"{row['p99_ms']:.0f} ms",
            *_beside(result, row),
            f"{result['memory_mib'][row['server']]} MiB",
        ]
        for row in sorted(result["rows"], key=lambda row: row["clients"])
    ]
    header = ["clients", "server", "documents/s", "p50", "p99", "ours: documents/s", "ours: p99", "memory"]
    told = f"{result['documents']} short documents a request, closed loops, {result['rounds']} rounds in turn.\n\n"
    return told + table(header, rows) + _skipped(result) + source("peers_http")


def _beside(result: dict[str, Any], row: dict[str, Any]) -> list[str]:
    ratios = result["ratios"].get(row["server"])
    if ratios is None:
        return ["1", "1"]
    more, sooner = (ratios[f"{what}, {row['clients']} clients"] for what in ("documents_per_s", "p99"))
    return [f"{more:.2f} times", f"{1 / sooner:.2f} times"]


def peers_claim() -> str:
    """The README's lines: each peer's ratio at its nearest to ours and at its farthest, both sizes, and over HTTP."""
    lines = []
    for part, title in (("student", "the default in process"), ("qwen", "a 0.6B Qwen3 shape in process")):
        ratios = read_result(f"peers_{part}")["ratios"]
        told = (f"{name} {min(found.values()):.1f} to {max(found.values()):.1f}" for name, found in ratios.items())
        lines.append(f"- {title}, times as long as ours: {', '.join(told)}")
    for name, found in read_result("peers_http")["ratios"].items():
        told = (f"{value:.1f} ({what})" for what, value in found.items())
        lines.append(f"- over HTTP, ours against {name}, times better: {', '.join(told)}")
    return "\n".join(lines) + "\n"
