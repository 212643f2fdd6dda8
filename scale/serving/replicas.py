"""How the replicas of one service speak with one another: calls that Ray Serve hands to all of them.

What `service.siblings` does for workers of one machine over sockets, this does over Serve's `broadcast`: the scrape of
one shows all, an artifact takes over in all or in none, the texts behind a handle are found at whoever has them.

Each sample of /metrics carries the replica's id in the label `replica`.
"""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from service.siblings import METRICS_TIMEOUT_S, Handle, SiblingError, merge_expositions

# Of a question that does not go to the app: what serves, for a replica that starts.
ARTIFACT = "artifact"
# A replica that starts while no other runs has nobody to ask.
FIRST_LOOK_S = 5.0
# A handle has one byte for the number of the replica that gave it.
MAX_NUMBERS = 256


class Replicas:
    """One replica's place among all; `service.siblings.Peers` says what each method is for."""

    def __init__(self, name: str, rank: int, key: bytes, own: Any) -> None:
        """`name` is its id, `rank` its place among those that run, `own` Serve's handle of their deployment."""
        self.name = name
        self.index = rank % MAX_NUMBERS
        self._key = key
        self._own = own
        self._handle: Handle | None = None
        self._artifact = ""

    async def join(self) -> Path | None:
        """Ask the others, at the start: the artifact that took over last, None if none did.

        Its number is its rank, unless one that runs has that: Serve gives ranks anew when replicas go, and a number
        stays.
        """
        try:
            answers = await self._broadcast(ARTIFACT, "", FIRST_LOOK_S)
        except SiblingError:
            return None
        self.index = free_number(self.index, {answer["number"] for answer in answers if "number" in answer})
        told = [answer["answer"] for answer in answers if answer.get("answer")]
        self._artifact = told[0] if told else ""
        return Path(told[0]) if told else None

    def remember_artifact(self, folder: Path) -> None:
        """Every replica that runs remembers it; one that starts asks them."""
        self._artifact = str(folder.absolute())

    def shared_key(self, fresh: bytes) -> bytes:  # noqa: ARG002 - all of them were given one at their start
        """The secret of all replicas."""
        return self._key

    async def listen(self, handle: Handle) -> None:
        """Answer the others from now on."""
        self._handle = handle

    async def answer(self, asker: str, what: str, argument: str) -> dict[str, Any]:
        """What this replica says to another; nothing to itself."""
        if asker == self.name:
            return {}
        known: dict[str, Any] = {"name": self.name, "number": self.index}
        if what == ARTIFACT:
            return known | {"answer": self._artifact}
        if self._handle is None:
            return known | {"error": "it is starting"}
        try:
            answer = await self._handle(what, argument)
        except Exception as error:  # told to whoever asked
            return known | {"error": f"{type(error).__name__}: {error}"}
        if what == "commit":
            self._artifact = argument
        return known | {"answer": answer}

    async def _broadcast(self, what: str, argument: str, timeout_s: float) -> list[dict[str, Any]]:
        try:
            asked = self._own.broadcast("answer", self.name, what, argument)
            async with asyncio.timeout(timeout_s):
                results = await asked.results_async(return_exceptions=True)
        except Exception as error:  # Ray's, of many kinds: no replica runs, or none that answers in time
            raise SiblingError(f"the replicas do not answer: {type(error).__name__}") from error
        return [
            {"error": f"{type(result).__name__}: {result}"} if isinstance(result, BaseException) else result
            for result in results
            if result != {}
        ]

    async def ask(self, index: int, what: str, argument: str, timeout_s: float) -> str:
        """The first answer of replicas with this number that is not empty."""
        answers = await self._broadcast(what, argument, timeout_s)
        said = [answer for answer in answers if answer.get("number") == index and answer.get("answer")]
        if not said:
            raise SiblingError(f"no replica {index} answers")
        return str(said[0]["answer"])

    async def ask_all(self, what: str, argument: str, timeout_s: float) -> Mapping[int, str | SiblingError]:
        """What each of the others answers, by its place in the answer."""
        try:
            answers = await self._broadcast(what, argument, timeout_s)
        except SiblingError as error:
            return {0: error}
        return {
            place: str(answer["answer"]) if "answer" in answer else SiblingError(f"a replica: {answer['error']}")
            for place, answer in enumerate(answers)
        }

    async def render(self, own: bytes) -> bytes:
        """The exposition of all replicas, given one's own."""
        texts = {self.name: own.decode()}
        try:
            answers = await self._broadcast("metrics", "", METRICS_TIMEOUT_S)
        except SiblingError:
            answers = []
        texts |= {answer["name"]: str(answer["answer"]) for answer in answers if "answer" in answer}
        return merge_expositions(texts, "replica").encode()

    async def close(self) -> None:
        """Answer no more."""
        self._handle = None


def free_number(rank: int, taken: Collection[int]) -> int:
    """`rank` if it is free, else a number from the other end: two that start at once have different ranks."""
    wanted = [rank, *((MAX_NUMBERS - 1 - rank - step) % MAX_NUMBERS for step in range(MAX_NUMBERS))]
    return next((number for number in wanted if number not in taken), rank)
