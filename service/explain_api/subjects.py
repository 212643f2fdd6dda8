"""From what a caller names to what is explained: a pair with the grade that was given to it.

scored pairs -> handles                      at /score, for those who ask
a handle -> its artifact serves? -> its texts: from the body, from here, from the worker that scored it
a pair   -> scored, as /score does it (most often it is in the score cache) -> a handle
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relevance.pair import Pair
from service.errors import FieldError, HandleGoneError, InvalidFieldsError, ServiceError
from service.explain_api.bodies import Order, Wanted
from service.explain_api.handles import Handle, Signer, Ticket, artifact_mark
from service.explain_api.metrics import ExplainMetrics
from service.explain_api.texts import PairTexts
from service.explaining.events import Sampling
from service.live_model import LiveModel
from service.score import NOT_SCORED, ScoredRequest
from service.score_cache import keys_of
from service.tokenise import DEFAULT_CUT, Cut
from service.work import Terms


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explained."""

    handle: Handle
    pair: Pair


class Subjects:
    """Finds them, and names them."""

    def __init__(self, signer: Signer, texts: PairTexts, metrics: ExplainMetrics) -> None:
        self.signer = signer
        self._texts = texts
        self._metrics = metrics

    def tell_pair(self, digest: str) -> str:
        """The texts behind a handle, for another worker; empty where they are gone."""
        return self._texts.tell(digest)

    def give_handles(self, model: LiveModel, pairs: Sequence[Pair], cut: Cut, scored: ScoredRequest) -> ScoredRequest:
        """`scored` with a handle for each pair that has a grade; their texts are kept for a while."""
        subjects = self._name(model, pairs, cut, scored.pairs.grades.tolist())
        self._texts.put((one.handle.pair, one.pair) for one in subjects if one is not None)
        handles = [None if one is None else self.signer.write_handle(one.handle) for one in subjects]
        self._metrics.count_handles(len(handles) - handles.count(None))
        return replace(scored, handles=handles)

    async def find(self, model: LiveModel, order: Order, deadline: float) -> list[Subject]:
        """What `order` wants explained, all of it.

        Raises:
            HandleGoneError: of a handle, the artifact or the texts are gone.
            InvalidFieldsError: texts that are not the handle's, a grade that is not the pair's.
            ServiceError: what scoring raises.
        """
        if all(one.handle is None for one in order.wanted):
            return await self._score(model, order.wanted, deadline)
        return [
            await self.find_one(model, one.handle, one.field, one.pair)
            for one in order.wanted
            if one.handle is not None
        ]

    async def find_one(self, model: LiveModel, handle: Handle, field: str, given: Pair | None = None) -> Subject:
        """What `handle` names; `given` are the texts that came with it, `field` is where it stands in the request."""
        artifact = model.artifact.hash
        if handle.artifact != artifact_mark(artifact):
            raise _gone(field, "another artifact serves by now; score the pair again")
        if given is not None:
            if keys_of(artifact, [given], DEFAULT_CUT) != [handle.pair]:
                raise InvalidFieldsError(
                    [FieldError("document", "query, document or instruction are not the handle's")]
                )
            self._texts.put([(handle.pair, given)])
            return Subject(handle, given)
        pair = await self._texts.find(handle)
        if pair is None:
            raise _gone(field, "its texts are no longer held; send query and document with it")
        return Subject(handle, pair)

    async def _score(self, model: LiveModel, wanted: Sequence[Wanted], deadline: float) -> list[Subject]:
        grade_names = model.served.grade_names
        for one in wanted:
            if one.grade is not None and one.grade >= len(grade_names):
                raise InvalidFieldsError([FieldError("grade", f"must be 0 to {len(grade_names) - 1}")])
        pairs = [one.pair for one in wanted if one.pair is not None]
        scored = await model.scorer.score(pairs, DEFAULT_CUT, Terms(deadline, keeps_kv=True))
        found = [one for one in self._name(model, pairs, DEFAULT_CUT, scored.pairs.grades.tolist()) if one is not None]
        self._texts.put((one.handle.pair, one.pair) for one in found)
        for one, subject in zip(wanted, found, strict=True):
            if one.grade not in (None, subject.handle.grade):
                name = grade_names[subject.handle.grade]
                message = f"the model gives {subject.handle.grade} ({name}), not {one.grade}"
                raise InvalidFieldsError([FieldError("grade", message)])
        return found

    def _name(self, model: LiveModel, pairs: Sequence[Pair], cut: Cut, grades: Sequence[int]) -> list[Subject | None]:
        mark, worker = artifact_mark(model.artifact.hash), self._texts.worker
        keys = keys_of(model.artifact.hash, pairs, cut)
        return [
            None if grade == NOT_SCORED else Subject(Handle(mark, key, grade, worker), pair)
            for key, grade, pair in zip(keys, grades, pairs, strict=True)
        ]


def ticket_of(subject: Subject, order: Order, draw_seed: Callable[[], int]) -> Ticket:
    """How `order` wants `subject` explained; a seed is drawn where one is needed and none is named."""
    seed = order.seed or 0
    if order.temperature and order.seed is None:
        seed = draw_seed()
    return Ticket(subject.handle, Sampling(order.max_tokens, order.temperature, seed))


def _gone(field: str, message: str) -> ServiceError:
    error = HandleGoneError(f"{field}: {message}")
    error.field_errors = (FieldError(field, message),)
    return error
