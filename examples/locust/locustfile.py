"""The service under Locust, for teams whose load tests live there.

    pip install locust
    locust -f examples/locust/locustfile.py --host http://localhost:8080 --headless --users 8 --run-time 30s

Locust's users wait for their answers, so it shows what the service can do, not what callers of a busy one see: there
requests are due whatever has become of others, which is what `python -m loadtest` measures.
"""

import itertools
import random

from locust import HttpUser, between, task

WORDS = "usb c cable braided two metre wool socks waterproof jacket stainless steel kettle running shoes office chair"
NUMBERS = itertools.count()


def text(num_words: int) -> str:
    """Words nobody has asked for before, so that no cache answers."""
    return f"{' '.join(random.choices(WORDS.split(), k=num_words))} {next(NUMBERS)}-{random.getrandbits(32):x}"


class Search(HttpUser):
    """A search that ranks its candidates, and now and then asks why the best one is the best."""

    wait_time = between(0.0, 0.1)

    @task(9)
    def score(self) -> None:
        """Twenty documents, with a deadline; a refusal is an answer, not a fault of the service."""
        body = {"query": text(3), "documents": [text(25) for _ in range(20)], "timeout_ms": 400}
        with self.client.post("/score", json=body, catch_response=True) as response:
            if response.status_code in (429, 504):
                response.success()

    @task(1)
    def explain(self) -> None:
        """A score with handles, then the explanation of the best result as JSON."""
        scored = self.client.post("/score", json={"query": text(3), "documents": [text(25)], "explain": True}).json()
        handle = scored["results"][0]["handle"]
        self.client.post("/explain", json={"handle": handle}, headers={"Accept": "application/json"})
