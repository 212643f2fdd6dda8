"""How the workers of one service speak with one another: one JSON line each way, over Unix sockets in a private folder.

    metrics                    the exposition of one worker; the one that is scraped puts all of them together
    prepare PATH, then commit  an artifact takes over in every worker or in none
    or abort
    pair DIGEST                the texts behind a handle that another worker gave

What must be the same in all of them and is set by nobody (the key that signs handles) lies in that folder.

Each worker's series carry its number in the label `worker`, so nothing is added up that must not be (a gauge, a
histogram's sum after a restart): Prometheus does that, knowing that each series began at 0.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)

# A worker that does not answer within this is starting, stopping or stuck: a scrape goes on without it.
METRICS_TIMEOUT_S = 2.0
# A stuck worker must not hold up an explanation: its caller can send the texts along.
PAIR_TIMEOUT_S = 2.0
# Loading, warming up and testing an artifact.
SWAP_TIMEOUT_S = 300.0
MAX_LINE_BYTES = 16 * 2**20

Answer = dict[str, str]
Handle = Callable[[str, str], Awaitable[str]]


class SiblingError(Exception):
    """A worker did not do what another asked it for."""


class Peers(Protocol):
    """One worker's place among all, wherever the others run: `Siblings` share a machine."""

    index: int
    """Its number."""

    def remember_artifact(self, folder: Path) -> None:
        """What a worker that is started later has to serve."""
        ...

    def shared_key(self, fresh: bytes) -> bytes:
        """The secret of all workers."""
        ...

    async def listen(self, handle: Handle) -> None:
        """Answer the others from now on."""
        ...

    async def ask(self, index: int, what: str, argument: str, timeout_s: float) -> str:
        """The answer of worker `index`, or a SiblingError."""
        ...

    async def ask_all(self, what: str, argument: str, timeout_s: float) -> Mapping[int, str | SiblingError]:
        """What each of the others answers, or why it does not."""
        ...

    async def render(self, own: bytes) -> bytes:
        """The exposition of all workers, given one's own."""
        ...

    async def close(self) -> None:
        """Answer no more."""
        ...


class Siblings:
    """One worker's place among those that one program started."""

    def __init__(self, folder: Path, index: int, num_workers: int) -> None:
        self.index = index
        self._folder = folder
        self._num_workers = num_workers
        self._server: asyncio.AbstractServer | None = None

    def remember_artifact(self, folder: Path) -> None:
        """What a worker that is started later has to serve."""
        written = self._folder / "artifact.new"
        written.write_text(str(folder.absolute()), encoding="utf-8")
        written.replace(self._folder / "artifact")

    def remembered_artifact(self) -> Path | None:
        """The artifact that took over last; None if none did."""
        path = self._folder / "artifact"
        return Path(path.read_text(encoding="utf-8")) if path.exists() else None

    def shared_key(self, fresh: bytes) -> bytes:
        """The secret of all workers: `fresh`, unless another worker was first with its own."""
        written, key = self._folder / f"key.{self.index}", self._folder / "key"
        written.write_bytes(fresh)
        with contextlib.suppress(FileExistsError):
            key.hardlink_to(written)  # whole, or not at all
        written.unlink()
        return key.read_bytes()

    @property
    def others(self) -> Sequence[int]:
        """The numbers of the others."""
        return [index for index in range(self._num_workers) if index != self.index]

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.sock"

    async def listen(self, handle: Handle) -> None:
        """Answer the others from now on: `handle(what, argument)` returns the answer, or raises to refuse."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                asked = json.loads(await reader.readline())
                try:
                    answer: Answer = {"answer": await handle(asked["what"], asked["argument"])}
                except Exception as error:  # told to whoever asked
                    answer = {"error": f"{type(error).__name__}: {error}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
            except (OSError, ValueError, KeyError) as error:
                logger.warning("sibling_request_failed", exc_info=error)
            finally:
                writer.close()

        self._path(self.index).unlink(missing_ok=True)  # of a worker that died
        self._server = await asyncio.start_unix_server(serve, self._path(self.index), limit=MAX_LINE_BYTES)

    async def ask(self, index: int, what: str, argument: str, timeout_s: float) -> str:
        """The answer of worker `index`.

        Raises:
            SiblingError: it refused, is not there, or took too long.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self._path(index), limit=MAX_LINE_BYTES)
                try:
                    writer.write(json.dumps({"what": what, "argument": argument}).encode() + b"\n")
                    await writer.drain()
                    answer: Answer = json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise SiblingError(f"worker {index} does not answer") from error
        if "error" in answer:
            raise SiblingError(f"worker {index}: {answer['error']}")
        return answer["answer"]

    async def ask_all(self, what: str, argument: str, timeout_s: float) -> Mapping[int, str | SiblingError]:
        """What each of the others answers, or why it does not."""
        asked = (self.ask(index, what, argument, timeout_s) for index in self.others)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: dict[int, str | SiblingError] = {}
        for index, answer in zip(self.others, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, SiblingError):
                raise answer
            found[index] = answer
        return found

    async def render(self, own: bytes) -> bytes:
        """The exposition of all workers, given one's own."""
        answers = await self.ask_all("metrics", "", METRICS_TIMEOUT_S)
        texts = {index: text for index, text in answers.items() if isinstance(text, str)}
        return merge_expositions({self.index: own.decode(), **texts}).encode()

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            self._path(self.index).unlink(missing_ok=True)


def merge_expositions(texts: Mapping[int, str] | Mapping[str, str], label: str = "worker") -> str:
    """One exposition of several: each family once, each sample with the label `label`, whose value is the key."""
    families: dict[str, list[str]] = {}
    for value, text in sorted(texts.items()):
        family: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = families.setdefault(line, [])
            elif line.startswith("#"):
                if line not in family:
                    family.append(line)
            elif line:
                family.append(_labelled(line, f'{label}="{value}"'))
    return "".join(f"{help_line}\n{''.join(line + chr(10) for line in lines)}" for help_line, lines in families.items())


def _labelled(sample: str, label: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f"{name}{{{label},{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"
