"""From counts and times to the figures of one load, and whether client and service agree on them.

The client and the service measure the same request with clocks of their own: the client from sending to the last byte,
the service (`Server-Timing: total`) from its headers to the encoded answer. What lies between is the network, the
kernel and the queue before the event loop. They agree if the median difference is below 1 ms or 5 % of the median, and
if `/metrics` counted as many requests of each outcome, with the same mean, as the answers say.
"""

from collections import Counter
from typing import Any

from loadtest.processes import Outcome
from loadtest.scrape import Scrape
from loadtest.tally import STAGES, Tally, Times, merged

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
AGREE_MS, AGREE_SHARE = 1.0, 0.05
# Beyond the larger of these the senders were too busy, and their lag is part of what was measured.
MAX_LATE_MS, MAX_LATE_SHARE_OF_SLO = 5.0, 0.02
SERVICE_OUTCOMES = {
    "ok": "ok",
    "partial": "partial",
    "cancelled": "cancelled",
    "deadline_exceeded": "expired",
    "overloaded": "refused",
    "deadline_unmeetable": "refused",
    "rate_limited": "refused",
}


def times_ms(times: Times) -> dict[str, float | None]:
    """Mean, percentiles and maximum in milliseconds."""
    shown = {"mean": times.mean_ms()} | {f"p{q:g}": times.percentile_ms(q) for q in PERCENTILES}
    shown["max"] = times.percentile_ms(100.0)
    return {name: None if value is None else round(value, 3) for name, value in shown.items()}


def max_late_ms(slo_ms: float) -> float:
    """How late requests may be sent, at the 99th percentile, before the client counts as what was measured."""
    return max(MAX_LATE_MS, MAX_LATE_SHARE_OF_SLO * slo_ms)


def level_figures(
    outcome: Outcome, seconds: float, offered_rps: float | None, late_limit_ms: float, told: Scrape | None
) -> dict[str, Any]:
    """Everything measured of one load.

    Args:
        outcome: what the senders counted.
        seconds: of the measured window.
        offered_rps: None in a closed loop.
        late_limit_ms: how late, at the 99th percentile, the senders may be.
        told: how much /metrics has grown; None where there is none.
    """
    tally = outcome.measured
    late_p99 = tally.times_of("late_send").percentile_ms(99.0)
    figures: dict[str, Any] = {
        "offered_rps": None if offered_rps is None else round(offered_rps, 3),
        "sent_rps": round(tally.num_sent / seconds, 3),
        "goodput_rps": round(tally.num_in_time / seconds, 3),
        "documents_per_s": round(tally.num_documents / seconds, 1),
        "sent": tally.num_sent,
        "good_share": round(tally.num_in_time / tally.num_sent, 4) if tally.num_sent else None,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "answer_ms": times_ms(tally.times_of("answer")),
        "service_ms": times_ms(tally.times_of("service")),
        "refused_ms": times_ms(tally.times_of("refused")),
        "late_send_ms": times_ms(tally.times_of("late_send")),
        "late_send_p99_ms_by_process": outcome.late_ms_by_process,
        "client_kept_up": late_p99 is None or late_p99 <= late_limit_ms,
        "cache_hit_ratio": _ratio(tally.num_cached_pairs, tally.num_distinct_pairs),
        "stages_ms": {
            name.partition(":")[2]: times_ms(times) for name, times in tally.times.items() if name.startswith("stage:")
        },
        "cdf": [[round(ms, 3), share] for ms, share in tally.times_of("answer").curve()],
    }
    if tally.explained:
        figures["explained"] = dict(sorted(tally.explained.items()))
        figures["explain_ms"] = times_ms(tally.times_of("explain"))
        figures["first_piece_ms"] = times_ms(tally.times_of("first_piece"))
    whole = merged((outcome.warm_up, outcome.measured))
    if told is not None:
        figures["service"] = _service_figures(told, outcome.ended_s)
    figures["agreement"] = agreement(tally, whole, told)
    return figures


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _mean(told: Scrape, name: str, **labels: str) -> float | None:
    count = told.value(f"{name}_count", **labels)
    return told.value(f"{name}_sum", **labels) / count if count else None


def _service_figures(told: Scrape, elapsed_s: float) -> dict[str, Any]:
    """What /metrics says of the load, its warm-up included."""
    means = {stage: _mean(told, "relevance_stage_seconds", stage=stage) for stage in (*STAGES, "total")}
    lookups = told.by_label("relevance_score_lookups_total", "source")
    pack = {name: _mean(told, f"relevance_pack_{name}") for name in ("tokens", "documents")}
    return {
        "stages_mean_ms": {stage: None if mean is None else round(1e3 * mean, 3) for stage, mean in means.items()},
        "tokens_per_pack": None if pack["tokens"] is None else round(pack["tokens"], 1),
        "documents_per_pack": None if pack["documents"] is None else round(pack["documents"], 2),
        "tokens_per_s": round(told.value("relevance_pack_tokens_sum") / elapsed_s, 1),
        "cache_hit_ratio": _ratio(sum(lookups.values()) - lookups.get("computed", 0.0), sum(lookups.values())),
        "cores_used": round(told.value("process_cpu_seconds_total") / elapsed_s, 3),
    }


def agreement(measured: Tally, whole: Tally, told: Scrape | None) -> dict[str, Any]:
    """Client against service: times of the measured requests, counts and means of all of them, warm-up included."""
    client, service = measured.times_of("service"), measured.times_of("total")
    found: dict[str, Any] = {}
    if len(service):
        apart = measured.times_of("stage:outside the service").percentile_ms(50.0) or 0.0
        median = client.percentile_ms(50.0) or 0.0
        found["client_p50_ms"] = round(median, 3)
        found["service_p50_ms"] = round(service.percentile_ms(50.0) or 0.0, 3)
        found["difference_p50_ms"] = round(apart, 3)
        found["times_agree"] = apart <= max(AGREE_MS, AGREE_SHARE * median)
    if told is None:
        return found
    counted: Counter[str] = Counter()
    for code, number in told.by_label("relevance_requests_total", "outcome").items():
        counted[SERVICE_OUTCOMES.get(code, code)] += round(number)
    found["outcomes_by_the_service"] = {name: number for name, number in sorted(counted.items()) if number}
    # The service counts the request for an explanation like any other, by how its stream began.
    seen = whole.outcomes + Counter({"ok" if name == "http_200" else name: n for name, n in whole.explained.items()})
    arrived = Counter({name: number for name, number in seen.items() if name not in ("unsent", "lost", "no handle")})
    found["counts_agree"] = _counts_agree(arrived, counted)
    mean, answers = _mean(told, "relevance_stage_seconds", stage="total"), whole.times_of("total").mean_ms()
    if mean is not None and answers is not None:
        found["mean_ms_by_metrics"] = round(1e3 * mean, 3)
        found["mean_ms_by_answers"] = round(answers, 3)
        found["means_agree"] = abs(1e3 * mean - answers) <= max(AGREE_MS, AGREE_SHARE * answers)
    return found


def _counts_agree(seen: Counter[str], counted: Counter[str]) -> bool:
    """All of them; each outcome too, unless somebody hung up: that may come before the request or after its answer."""
    if seen["cancelled"] or counted["cancelled"]:
        return seen.total() - seen["cancelled"] <= counted.total() <= seen.total()
    names = ("ok", "partial", "refused", "expired")
    return seen.total() == counted.total() and all(seen[name] == counted[name] for name in names)
