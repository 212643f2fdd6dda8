"""The program answers as its OpenAPI document says: generated requests, real HTTP, the tiny artifact."""

import itertools

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.dialects import discover
from service.dispatch import Dispatch
from tests.api.test_program import running

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


KEY = "an-admin-key-for-tests"
HEADERS = {"x-api-key": KEY}


def test_generated_requests_are_answered_as_documented() -> None:
    with running("--api-keys", f"ops {KEY} admin", "--public-metrics") as program:
        schema = schemathesis.openapi.from_url(f"{program.url}/openapi.json", headers=HEADERS)
        operations = [operation.ok() for operation in schema.get_all_operations()]
        assert {operation.path for operation in operations} > {
            *Dispatch(discover()).paths,
            "/admin/artifact",
            "/metrics",
        }
        statuses: set[int] = set()

        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        scoring = [operation for operation in operations if operation.method == "post"]
        for operation, mode in itertools.product(scoring, modes):

            @settings(
                max_examples=20,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                response = case.call(base_url=program.url, headers=HEADERS)
                statuses.add(response.status_code)
                case.validate_response(response, checks=CHECKS)

            ask()
        for operation in operations:
            if operation.method == "get" and "{" not in operation.path:
                response = httpx.get(f"{program.url}{operation.path}", headers=HEADERS)
                assert response.status_code == 200, operation.path
        assert statuses >= {200, 422}
        assert program.metric('relevance_requests_total{outcome="internal"}') == 0
