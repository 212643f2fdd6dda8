"""What the OpenAPI document says of bodies and answers. The routes check nothing by it: tests hold it to the truth."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.dialect import Stamp
from service.dispatch import Dispatch
from service.errors import (
    CannotExplainError,
    CannotResumeError,
    ExplanationCutError,
    ForbiddenError,
    HandleGoneError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceError,
    SwapUnderWayError,
    TooManyExplanationsError,
    UnknownExplanationError,
    UnusableArtifactError,
    concrete_errors,
    example_of,
)

# What neither scores nor explains answers so: there is no such route, or only the admin's does.
_ELSEWHERE = (NotFoundError, MethodNotAllowedError, ForbiddenError, SwapUnderWayError, UnusableArtifactError)
_OF_EXPLANATIONS = (
    UnknownExplanationError,
    HandleGoneError,
    CannotResumeError,
    TooManyExplanationsError,
    ExplanationCutError,
    CannotExplainError,
)


def request_schema(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """JSON schema of a body that is one of `models`, with every reference resolved in place."""
    _, schema = models_json_schema([(model, "validation") for model in models])
    definitions = schema["$defs"]

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(child) for child in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rsplit("/", 1)[-1]])
        return {key: resolve(child) for key, child in node.items()}

    return {"anyOf": [resolve(definitions[model.__name__]) for model in models]}


def errors_of_scoring() -> list[type[ServiceError]]:
    """What a route that scores may answer."""
    return [error for error in errors_of_explaining() if not issubclass(error, _OF_EXPLANATIONS)]


def errors_of_explaining() -> list[type[ServiceError]]:
    """What a route that explains may answer: all that one that scores may, and more."""
    return [error for error in concrete_errors() if not issubclass(error, _ELSEWHERE)]


def response_models(dispatch: Dispatch, path: str) -> dict[int | str, dict[str, Any]]:
    """Answers and errors of `path`, for the OpenAPI document; what is 500 in one dialect is 424 in another."""
    found = dispatch.entries(path)
    models: dict[int, list[Any]] = {200: [entry.answer for _, entry in found]}
    for dialect, _ in found:
        for error in errors_of_scoring():
            status = dialect.refuse(example_of(error), Stamp("", 0)).status
            if dialect.error not in models.setdefault(status, []):
                models[status].append(dialect.error)
    return {status: {"model": functools.reduce(operator.or_, models[status])} for status in sorted(models)}
