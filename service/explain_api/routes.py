"""The routes of explanations.

    POST /explain        Accept: text/event-stream    the events, at once
                         Accept: application/json     the whole explanation
                         anything else                202, and where the events can be read
    GET  /explain/{id}                                the events, for a browser's EventSource, which can only GET

Whatever can be refused is refused before any header is sent. A stream whose reader goes away is closed within one
decode step, and the decode ends with its last reader.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from service.deadlines import HEADER
from service.dialects.native import error_answer
from service.errors import FieldError, InvalidFieldsError, ServiceError, UnknownExplanationError
from service.explain_api.bodies import Order, read_order
from service.explain_api.handles import HandleError, Ticket
from service.explain_api.metrics import ExplainMetrics
from service.explain_api.openapi import DESCRIPTION, GET_RESPONSES, PARAMETERS, POST_RESPONSES, REQUEST_BODY
from service.explain_api.sharing import Explanations, Reader, Reading
from service.explain_api.stream import END, EventStream, Label, done_info, frames, merged, read_last_event
from service.explain_api.subjects import Subject, Subjects, ticket_of
from service.explaining.events import Done, Event, ExplanationRequest, Grade, Step
from service.live_model import LiveModel
from service.request_body import read_body, unless_client_goes
from service.routes import CLIENT_GONE_STATUS, Endpoints, json_response, refusal
from service.trail import trail_of
from service.wire import as_fields, parse_json

EVENTS, JSON = "text/event-stream", "application/json"
# Of one batch, so that it does not take all the room there is.
BATCH_STREAMS = 8


@dataclass(frozen=True, slots=True)
class Surface:
    """What the routes of explanations are made of, beside the `Endpoints`."""

    subjects: Subjects
    explanations: Explanations
    metrics: ExplainMetrics
    draw_seed: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Item:
    """One explanation that is asked for."""

    ticket: Ticket
    subject: Subject
    label: Label
    reader: Reader

    @property
    def info(self) -> dict[str, Any]:
        """What is known of it before it is told."""
        return self.label.place | {"explain_id": self.label.explain_id, "stream_url": self.label.stream_url}


def create_explain_router(endpoints: Endpoints, surface: Surface) -> APIRouter:
    """Both routes."""
    router = APIRouter(tags=["explanations"])
    routes = _Routes(endpoints, surface)
    router.add_api_route(
        "/explain",
        routes.guarded(routes.post),
        methods=["POST"],
        name="post /explain",
        operation_id="post_explain",
        summary="Explain grades already given",
        description=DESCRIPTION,
        response_class=Response,
        responses=POST_RESPONSES,
        openapi_extra=REQUEST_BODY,
    )
    router.add_api_route(
        "/explain/{explain_id}",
        routes.guarded(routes.get),
        methods=["GET"],
        name="get /explain/{explain_id}",
        operation_id="get_explain",
        summary="The events of an explanation",
        response_class=Response,
        responses=GET_RESPONSES,
        openapi_extra=PARAMETERS,
    )
    return router


class _Routes:
    def __init__(self, endpoints: Endpoints, surface: Surface) -> None:
        self._endpoints = endpoints
        self._surface = surface

    def guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """`answer`, counted."""
        count = self._endpoints.metrics.count_request

        async def endpoint(request: Request) -> Response:
            try:
                response = await answer(request)
            except ClientDisconnect:
                count("cancelled")
                return Response(status_code=CLIENT_GONE_STATUS)
            except asyncio.CancelledError:
                count("cancelled")
                raise
            count("ok")
            return response

        return endpoint

    async def post(self, request: Request) -> Response:
        """POST /explain."""
        asked_at = self._endpoints.clock()
        deadlines = self._endpoints.deadlines
        header_ms = deadlines.read_header(request.headers.get(HEADER))
        patience_s = min(self._endpoints.body_timeout_s, deadlines.timeout_s(header_ms, None))
        body = await read_body(request, self._endpoints.max_body_bytes, patience_s)
        order = read_order(as_fields(parse_json(body)), self._surface.subjects.signer)
        self._check_readiness()
        trail_of(request.scope).charge_documents(len(order.wanted))
        reader = Reader(asked_at, asked_at + deadlines.timeout_s(header_ms, order.timeout_ms))
        with ExitStack() as held:
            model = held.enter_context(self._endpoints.deployment.lease())
            subjects = await unless_client_goes(request, self._surface.subjects.find(model, order, reader.deadline))
            items = self._items(model, subjects, order, reader)
            accepted = request.headers.get("accept", "")
            if EVENTS in accepted:
                return await self._stream(request, model, items, order, held)
            if JSON in accepted:
                return json_response(await unless_client_goes(request, self._whole(model, items, order)))
            return self._later(model, items, order)

    async def get(self, request: Request) -> Response:
        """GET /explain/{explain_id}."""
        asked_at = self._endpoints.clock()
        deadlines = self._endpoints.deadlines
        timeout_s = deadlines.timeout_s(deadlines.read_header(request.headers.get(HEADER)), None)
        explain_id, last = request.path_params["explain_id"], request.headers.get("last-event-id")
        await read_body(request, self._endpoints.max_body_bytes, self._endpoints.body_timeout_s)
        signer = self._surface.subjects.signer
        try:
            ticket = signer.read_ticket(explain_id)
        except HandleError as error:
            raise UnknownExplanationError(f"there is no such explanation: {error}") from error
        if last == END:
            return Response(status_code=204)
        seen = read_last_event(last)
        if last and seen is None:
            raise InvalidFieldsError([FieldError("Last-Event-ID", "is no id of an event of ours")])
        self._check_readiness()
        trail_of(request.scope).charge_documents(1)
        with ExitStack() as held:
            model = held.enter_context(self._endpoints.deployment.lease())
            found = self._surface.subjects.find_one(model, ticket.handle, "explain_id")
            subject = await unless_client_goes(request, found)
            reader = Reader(asked_at, asked_at + timeout_s)
            item = _Item(ticket, subject, Label(explain_id, _model_info(model)), reader)
            reading = await self._begun(request, model, item, held)
            return EventStream(frames(reading, item.label, seen), self._counted(held))

    def _check_readiness(self) -> None:
        if not self._endpoints.readiness.is_serving:
            raise refusal(self._endpoints.readiness)

    def _items(self, model: LiveModel, subjects: list[Subject], order: Order, reader: Reader) -> list[_Item]:
        info, items = _model_info(model), []
        for index, subject in enumerate(subjects):
            ticket = ticket_of(subject, order, self._surface.draw_seed)
            explain_id = self._surface.subjects.signer.write_ticket(ticket)
            label = Label(explain_id, info, index if order.is_batch else None)
            items.append(_Item(ticket, subject, label, reader))
        return items

    async def _begun(self, request: Request, model: LiveModel, item: _Item, held: ExitStack) -> Reading:
        """A reading that has its first event, held by `held`."""
        reading = held.enter_context(self._open(model, item))
        await unless_client_goes(request, reading.begun())
        return reading

    def _open(self, model: LiveModel, item: _Item) -> AbstractContextManager[Reading]:
        subject, sampling = item.subject, item.ticket.sampling
        request = ExplanationRequest(subject.pair, subject.handle.grade, sampling=sampling)
        return self._surface.explanations.open(item.ticket, lambda: _decoded(model, request), item.reader)

    def _counted(self, held: ExitStack) -> ExitStack:
        """Hand `held` over to a stream, which is counted while it is open."""
        kept = held.pop_all()
        self._surface.metrics.opened(1)
        kept.callback(self._surface.metrics.opened, -1)
        return kept

    async def _stream(
        self, request: Request, model: LiveModel, items: list[_Item], order: Order, held: ExitStack
    ) -> Response:
        if order.is_batch:
            events = merged([self._frames(model, item) for item in items], BATCH_STREAMS)
            return EventStream(events, self._counted(held))
        reading = await self._begun(request, model, items[0], held)
        last = read_last_event(request.headers.get("last-event-id"))
        return EventStream(frames(reading, items[0].label, last), self._counted(held))

    async def _frames(self, model: LiveModel, item: _Item) -> AsyncGenerator[bytes, None]:
        with self._open(model, item) as reading:
            async with aclosing(frames(reading, item.label)) as events:
                async for frame in events:
                    yield frame

    async def _whole(self, model: LiveModel, items: list[_Item], order: Order) -> dict[str, Any]:
        """The answer as JSON."""
        if not order.is_batch:
            with self._open(model, items[0]) as reading:
                return {**items[0].info, **await _told(reading), "model": _model_info(model)}
        turns = asyncio.Semaphore(BATCH_STREAMS)

        async def one(item: _Item) -> dict[str, Any]:
            async with turns:
                with self._open(model, item) as reading:
                    try:
                        return {**item.info, **await _told(reading)}
                    except ServiceError as error:
                        failed = error_answer(error.code, str(error), error.field_errors)
                        return {**item.info, **_grade_info(model, item.subject), **failed}

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
        return {"results": [task.result() for task in tasks], "model": _model_info(model)}

    def _later(self, model: LiveModel, items: list[_Item], order: Order) -> Response:
        infos = [{**item.info, **_grade_info(model, item.subject)} for item in items]
        model_info = {"model": _model_info(model)}
        if order.is_batch:
            return json_response({"results": infos, **model_info}, 202)
        return json_response({**infos[0], **model_info}, 202, {"Location": items[0].label.stream_url})


async def _decoded(model: LiveModel, request: ExplanationRequest) -> AsyncGenerator[Event, None]:
    """The events of a new decode, which keeps its model alive."""
    with model.lease():
        async with aclosing(model.explainer.explain(request)) as events:
            async for event in events:
                yield event


async def _told(reading: Reading) -> dict[str, Any]:
    """A whole explanation, once it has been told."""
    steps: dict[str, Any] = {}
    grade: dict[str, Any] = {}
    while True:
        told = await reading.next()
        event = None if told is None else told.event
        if isinstance(event, Grade):
            grade = {"grade": event.grade, "grade_name": event.name}
        elif isinstance(event, Step):
            steps[event.name] = event.value
        elif isinstance(event, Done):
            return {**grade, "explanation": steps, **done_info(event, reading.source)}


def _grade_info(model: LiveModel, subject: Subject) -> dict[str, Any]:
    return {"grade": subject.handle.grade, "grade_name": model.served.grade_names[subject.handle.grade]}


def _model_info(model: LiveModel) -> Mapping[str, str]:
    return {"name": model.served.name, "hash": model.served.hash}
