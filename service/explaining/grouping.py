"""Which explanations share a decode step. Pure.

The one that has waited longest goes, and others with it as far as they fit. In a batch each answer is a row, compared
with as many slots as the longest one's row has, and an answer that is new to a batch has to be copied into it: so only
answers of one room share a step, those of a step stay together, and others join them by whole steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.explaining.stream import Stream


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How much one call of the engine may do for explanations, so that a score never waits for long."""

    max_streams: int
    max_tokens: int
    """New ones."""
    max_area: int
    """New tokens, in a batch those of the longest run for each, times slots they are compared with."""
    is_batch: bool
    """Whether answers are rows of a batch (`engine.answer_batch`), quickest with those of the same room."""

    def fit(self, streams: Sequence[Stream]) -> bool:
        """Whether the next tokens of `streams` may be computed in one call; one alone always may."""
        runs = [len(one.path.next_ids) for one in streams]
        num_tokens = sum(runs)
        if self.is_batch:
            area = len(runs) * max(runs) * max(one.room for one in streams)
        else:
            area = num_tokens * sum(one.num_slots for one in streams)
        fits = len(streams) <= self.max_streams and num_tokens <= self.max_tokens and area <= self.max_area
        return fits or len(streams) == 1


IN_ONE_ROW = StepLimits(max_streams=4, max_tokens=64, max_area=16_384, is_batch=False)
"""Answers of a row see one another's KV only to look away from it: past this, two rows are faster than one."""
AS_A_BATCH = StepLimits(max_streams=16, max_tokens=64, max_area=24_576, is_batch=True)
"""Of an artifact with a graph for answers: each is compared with its own past alone."""


def choose_streams(waiting: Iterable[Stream], limits: StepLimits) -> list[Stream]:
    """The first of `waiting`, which has the KV of its pair, and those that go with it."""
    ready = [stream for stream in waiting if stream.answer is not None]
    first = ready[0]
    if limits.is_batch:
        ready = [stream for stream in ready if stream.room == first.room]
    mates: list[Stream] = []
    others: dict[object, list[Stream]] = {}
    for stream in ready:
        if stream is first or (stream.last_step and stream.last_step == first.last_step):
            mates.append(stream)
        else:
            is_apart = not (limits.is_batch and stream.last_step)
            others.setdefault(stream if is_apart else stream.last_step, []).append(stream)
    chosen: list[Stream] = []
    for group in [*([one] for one in mates), *others.values()]:
        if limits.fit([*chosen, *group]):
            chosen += group
    return chosen
