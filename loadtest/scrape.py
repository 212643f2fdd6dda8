"""What the service says of itself: /metrics before and after a load, summed over workers, and the difference."""

import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
# A request that was hung up on is counted when the service has noticed.
_SETTLE_TRIES, _SETTLE_S = 10, 0.1


@dataclass(frozen=True, slots=True)
class Scrape:
    """Every sample, summed over the workers of one service."""

    samples: Mapping[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """Sum of the samples of a name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == name and wanted <= set(has))

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Samples of a name by the value of a label."""
        sums: dict[str, float] = {}
        for (found, has), value in self.samples.items():
            if found == name:
                key = dict(has).get(label, "")
                sums[key] = sums.get(key, 0.0) + value
        return sums

    def labels_of(self, name: str) -> dict[str, str]:
        """Labels of the first sample of a name; empty if there is none."""
        return next((dict(has) for (found, has) in self.samples if found == name), {})

    def since(self, before: "Scrape") -> "Scrape":
        """How much each sample has grown; one that fell (the service was started anew) counts from 0."""
        return Scrape(
            {
                key: value - old if value >= (old := before.samples.get(key, 0.0)) else value
                for key, value in self.samples.items()
            }
        )


def parse(text: str) -> Scrape:
    """The samples of an exposition text."""
    sums: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "worker"))
            key = (sample.name, labels)
            sums[key] = sums.get(key, 0.0) + sample.value
    return Scrape(sums)


class Metrics:
    """The /metrics of a service; None where it has none, or shows them to nobody without a key."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._request = urllib.request.Request(f"{url.rstrip('/')}/metrics", headers=dict(headers))

    def read(self) -> Scrape | None:
        """One scrape."""
        try:
            with urllib.request.urlopen(self._request, timeout=10) as answer:
                return parse(answer.read().decode())
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def read_settled(self, before: Scrape | None, num_requests: int) -> Scrape | None:
        """A scrape that has counted `num_requests` since `before`, or the last of a few tries."""
        if before is None:
            return None
        after = self.read()
        for _ in range(_SETTLE_TRIES):
            if after is None or after.since(before).value("relevance_requests_total") >= num_requests:
                break
            threading.Event().wait(_SETTLE_S)
            after = self.read()
        return after
