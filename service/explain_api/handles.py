"""Handles and explain ids: signed names of what may be explained, which any worker that knows the key can read.

    handle      artifact, pair, grade given, worker that scored it                 | MAC    58 characters
    explain id  the same, and how the explanation is decoded (tokens, temperature, seed)  | MAC    82 characters

A handle says which grade was given, so nobody can have another one explained: it is signed (HMAC-SHA256, cut to 16
bytes). It holds digests and no text; `texts` keeps the texts behind it for a while. Nothing is stored for an explain
id at all: whichever process is asked for it can start the explanation anew, and tells the same.
"""

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass, replace

from service.explaining.events import Sampling
from service.score_cache import DIGEST_BYTES, Key

ARTIFACT_BYTES = 8
MAC_BYTES = 16
MIN_KEY_BYTES = 16
MAX_SEED = 2**53 - 1
"""What every JSON reader takes for a whole number."""
MAX_TOKENS = 2**16 - 1

_HANDLE = struct.Struct(f"<B{ARTIFACT_BYTES}s{DIGEST_BYTES}sBB")
_SAMPLING = struct.Struct("<HdQ")
# The first byte: what it is, and in which layout.
_IS_HANDLE, _IS_TICKET = 0x11, 0x21


class HandleError(ValueError):
    """A text that this service did not sign, or signed with another key."""


@dataclass(frozen=True, slots=True)
class Handle:
    """One grade that was given."""

    artifact: bytes
    """The last ARTIFACT_BYTES of its hash."""
    pair: Key
    """As in the score cache: a digest of artifact, texts and cut."""
    grade: int
    worker: int
    """Number of the process that has the texts."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One explanation that may be asked for: what an explain id says."""

    handle: Handle
    sampling: Sampling

    def canonical(self) -> "Ticket":
        """The same for all tickets of the same explanation: who has the texts, and an idle seed, make no difference."""
        seed = self.sampling.seed if self.sampling.temperature else 0
        return Ticket(replace(self.handle, worker=0), replace(self.sampling, seed=seed))


class Signer:
    """Writes and reads both."""

    def __init__(self, key: bytes) -> None:
        """`key` is secret, and the same in all processes that shall understand one another.

        Raises:
            ValueError: it is shorter than MIN_KEY_BYTES.
        """
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key is shorter than {MIN_KEY_BYTES} bytes")
        self._key = key

    def write_handle(self, handle: Handle) -> str:
        """`handle` as text, safe in a URL."""
        return self._sign(_pack_handle(_IS_HANDLE, handle))

    def read_handle(self, text: str) -> Handle:
        """The handle that `write_handle` wrote.

        Raises:
            HandleError: it did not.
        """
        return _unpack_handle(self._verified(text, _IS_HANDLE, _HANDLE.size))

    def write_ticket(self, ticket: Ticket) -> str:
        """`ticket` as text, safe in a URL."""
        sampling = ticket.sampling
        how = _SAMPLING.pack(sampling.max_tokens or 0, sampling.temperature, sampling.seed)
        return self._sign(_pack_handle(_IS_TICKET, ticket.handle) + how)

    def read_ticket(self, text: str) -> Ticket:
        """The ticket that `write_ticket` wrote.

        Raises:
            HandleError: it did not.
        """
        content = self._verified(text, _IS_TICKET, _HANDLE.size + _SAMPLING.size)
        max_tokens, temperature, seed = _SAMPLING.unpack_from(content, _HANDLE.size)
        return Ticket(_unpack_handle(content), Sampling(max_tokens or None, temperature, seed))

    def _sign(self, content: bytes) -> str:
        return base64.urlsafe_b64encode(content + self._mac(content)).rstrip(b"=").decode("ascii")

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:MAC_BYTES]

    def _verified(self, text: str, kind: int, num_bytes: int) -> bytes:
        try:
            signed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise HandleError("it is not made of the characters of one") from error
        content, mac = signed[:-MAC_BYTES], signed[-MAC_BYTES:]
        if len(content) != num_bytes or content[0] != kind or not hmac.compare_digest(mac, self._mac(content)):
            raise HandleError("this service did not sign it, or signed it with another key")
        return content


def worker_of(text: str) -> int | None:
    """The number of the process that a handle or explain id comes from, to send a request there; None where it is no
    such text. Nothing is verified: whoever answers does that."""
    try:
        content = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    is_one = len(content) > _HANDLE.size and content[0] in (_IS_HANDLE, _IS_TICKET)
    return _unpack_handle(content).worker if is_one else None


def _pack_handle(kind: int, handle: Handle) -> bytes:
    return _HANDLE.pack(kind, handle.artifact, handle.pair, handle.grade, handle.worker)


def _unpack_handle(content: bytes) -> Handle:
    _, artifact, pair, grade, worker = _HANDLE.unpack_from(content)
    return Handle(artifact, pair, grade, worker)


def artifact_mark(artifact_hash: str) -> bytes:
    """What a handle keeps of an artifact's hash."""
    return bytes.fromhex(artifact_hash)[-ARTIFACT_BYTES:]
