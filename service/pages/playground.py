"""The playground: GET / is a page that scores, ranks and explains through the same routes as everybody else.

    GET  /                          the page
    GET  /playground/FILE           what it loads
    GET  /playground/about          what is served, its grades and limits, and sample queries
    POST /playground/candidate      scores by the candidate of shadow mode, to show beside those of the artifact

The page itself asks for no key, since it holds nothing; what it calls does, and it has a field for one.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from relevance.artifact import Artifact
from relevance.pair import Pair
from relevance.scoring import FloatArray, expected_score, most_likely_grade
from service.deployment import Deployment
from service.errors import DeadlineExceededError, NotFoundError
from service.pages.assets import STATIC, STRICT, add_files, static_files
from service.pages.samples import read_samples
from service.request_body import read_body
from service.shadow import Shadow
from service.trail import trail_of
from service.wire import Instruction, Query, StrictBody, as_fields, parse_json, refuse_too_many, validate

SCRIPTS = ("app.js", "cards.js", "documents.js", "explain.js", "highlight.js", "service.js", "snippets.js", "theme.js")
FILES = {
    "/": STATIC / "playground.html",
    **static_files("/playground", (*SCRIPTS, "playground.css", "cards.css", "mark.svg")),
}
ABOUT_PATH = "/playground/about"
PUBLIC_PATHS = frozenset({*FILES, ABOUT_PATH})
# The candidate has the lowest priority, and a person waits.
CANDIDATE_TIMEOUT_S = 30.0


class CandidateBody(StrictBody):
    """One query, many documents."""

    query: Query
    documents: list[str]
    instruction: Instruction = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may bring, as `service.settings` says it."""

    max_documents: int
    max_body_bytes: int
    body_timeout_s: float


def create_playground_router(
    deployment: Deployment, shadow: Shadow | None, limits: Limits, *, needs_key: bool
) -> APIRouter:
    """The page, its files and the two routes that only it calls."""
    router = APIRouter()
    add_files(router, FILES, STRICT)

    @router.get(ABOUT_PATH, include_in_schema=False)
    async def about() -> Response:
        artifact = deployment.current.artifact
        spec = artifact.manifest.spec
        samples = await asyncio.to_thread(read_samples, artifact.folder)
        return _json(
            {
                "model": _name(artifact),
                "candidate": _name(shadow.artifact) if shadow is not None else None,
                "grade_names": list(spec.scale.names),
                "instruction": spec.template.instruction is not None,
                "max_documents": limits.max_documents,
                "needs_key": needs_key,
                "samples": [{"query": one.query, "documents": list(one.documents)} for one in samples],
            }
        )

    @router.post("/playground/candidate", include_in_schema=False)
    async def candidate(request: Request) -> Response:
        fields = as_fields(parse_json(await read_body(request, limits.max_body_bytes, limits.body_timeout_s)))
        refuse_too_many(fields, ["documents"], limits.max_documents)
        body = validate(CandidateBody, fields)
        if shadow is None:
            raise NotFoundError("there is no candidate: `shadow_artifact` is not set")
        trail_of(request.scope).charge_documents(len(body.documents))
        pairs = [Pair(body.query, document, body.instruction) for document in body.documents]
        try:
            async with asyncio.timeout(CANDIDATE_TIMEOUT_S):
                distributions = await asyncio.wrap_future(shadow.ask(pairs))
        except TimeoutError:
            raise DeadlineExceededError(f"the candidate took more than {CANDIDATE_TIMEOUT_S:g} s") from None
        names = shadow.artifact.manifest.spec.scale.names
        return _json({"results": _results(distributions, names), "model": _name(shadow.artifact)})

    return router


def _name(artifact: Artifact) -> dict[str, str]:
    return {"name": artifact.manifest.name, "hash": artifact.hash, "precision": artifact.manifest.precision}


def _results(distributions: FloatArray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """One per document, in input order, as `/score` has them; `distributions` is [N, K]."""
    grades, scores = most_likely_grade(distributions).tolist(), expected_score(distributions).tolist()
    return [
        {"index": index, "grade": grade, "grade_name": names[grade], "distribution": distribution, "score": score}
        for index, (grade, distribution, score) in enumerate(zip(grades, distributions.tolist(), scores, strict=True))
    ]


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
