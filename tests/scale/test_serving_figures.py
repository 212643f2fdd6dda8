"""How the benchmark of replicas reads what replicas say."""

import itertools
import json
from collections import Counter

from benchmarks.blocks.replicas import _said, _sameness
from benchmarks.replica_loads import ROUTED_DOCUMENTS, by_source, num_ready, repeated, statuses_of
from benchmarks.served import Served
from loadtest.sender import LOST, Answer


class Scraped(Served):
    def metrics(self) -> dict[str, float]:
        return {
            'relevance_ready{replica="aaa"}': 1.0,
            'relevance_ready{replica="bbb"}': 0.0,
            'relevance_prefix_lookups_total{replica="aaa",source="hit"}': 3.0,
            'relevance_prefix_lookups_total{replica="bbb",source="hit"}': 4.0,
            'relevance_prefix_lookups_total{replica="bbb",source="miss"}': 1.0,
            'relevance_prefix_lookups_totals{replica="bbb",source="miss"}': 9.0,
        }


SCRAPED = Scraped("127.0.0.1", 1, 1)


def test_series_of_all_replicas_are_added_up() -> None:
    assert num_ready(SCRAPED) == 1
    assert by_source(SCRAPED, "prefix_lookups") == {"hit": 7, "miss": 1}


def test_what_failed_is_told_apart() -> None:
    answers = [Answer(status, 0.0, 0.0) for status in (200, 200, 503, LOST)]
    assert statuses_of(answers) == {"200": 2, "503": 1, "lost": 1}
    assert _said({"200": 2, "503": 1}) == "2 x 200, 1 x 503"
    assert _sameness({"equal_to_the_bit": False, "largest_difference": 2e-7}) == "within 2.0e-07"


def test_queries_come_again_and_documents_do_not() -> None:
    bodies = [json.loads(body) for body in itertools.islice(repeated(3), 200)]
    queries = Counter(body["query"] for body in bodies)
    assert 20 < len(queries) < 150
    assert queries.most_common(1)[0][1] > 15, "the first is asked for far more often than the rest"
    documents = [document for body in bodies for document in body["documents"]]
    assert len(set(documents)) == len(documents) == 200 * ROUTED_DOCUMENTS
    assert bodies == [json.loads(body) for body in itertools.islice(repeated(3), 200)]
