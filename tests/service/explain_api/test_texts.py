"""The texts behind handles: bounded, and asked of the worker that has them."""

from relevance.pair import Pair
from service.explain_api.handles import Handle
from service.explain_api.texts import ENTRY_BYTES, PairTexts

PAIRS = [(bytes([n]) * 16, Pair("q", chr(97 + n) * 1000, None if n % 2 else "why")) for n in range(20)]


def handle(n: int, worker: int = 0) -> Handle:
    return Handle(b"artifact", PAIRS[n][0], 0, worker)


async def test_the_least_recently_used_go_first_and_the_bound_holds() -> None:
    room = 5 * (ENTRY_BYTES + 1200)
    texts = PairTexts(room, 0)
    texts.put(PAIRS[:4])
    assert await texts.find(handle(0)) == PAIRS[0][1]
    texts.put(PAIRS[4:7])
    assert texts.num_bytes <= room
    assert await texts.find(handle(0)) == PAIRS[0][1]
    assert await texts.find(handle(1)) is None
    for _ in range(3):
        texts.put(PAIRS)
    assert 3 < len(texts) < 6
    assert texts.num_bytes <= room
    while len(texts) > 1:
        texts.put([(bytes(16), Pair("", "x" * (room - 500)))])
        assert texts.num_bytes <= room


async def test_a_bound_of_nothing_keeps_nothing() -> None:
    texts = PairTexts(0, 0)
    texts.put(PAIRS)
    assert (len(texts), texts.num_bytes, await texts.find(handle(3))) == (0, 0, None)


async def test_the_worker_that_gave_the_handle_is_asked_and_nobody_else() -> None:
    asked: list[tuple[int, str]] = []
    other = PairTexts(2**20, 3)
    other.put(PAIRS)

    async def ask(worker: int, digest: str) -> str | None:
        asked.append((worker, digest))
        return other.tell(digest) if worker == 3 else None

    texts = PairTexts(2**20, 0, ask)
    for n in (1, 2):
        assert await texts.find(handle(n, 3)) == PAIRS[n][1]
        assert await texts.find(handle(n, 3)) == PAIRS[n][1]
    assert [worker for worker, _ in asked] == [3, 3]  # what was told is kept
    assert await texts.find(handle(5, 4)) is None
    assert await texts.find(handle(5, 0)) is None
    assert len(asked) == 3
    assert texts.tell("00") == ""
