"""Who may ask: API keys, what each is called, and what it is allowed.

A key file, or the variable ANSWER_FIRST_API_KEYS with `;` between entries, has one key a line:

    NAME KEY [admin] [requests=N] [documents=N]        N a second; `#` begins a comment

KEY is the key itself or `sha256:` and the 64 hex digits of its SHA-256, so that the file need not be a secret.
Only digests are kept; a presented key is compared with every one of them, in constant time each, so the time
tells neither whether nor where it is known. Names are for logs and metrics; a key never is.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from service.rate_limit import Allowance
from service.settings import InvalidSettingsError

MIN_KEY_CHARACTERS = 16
# What tells how the service is, to whoever balances traffic: beside the playground's files, the only paths that never
# ask for a key.
PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health", "/ping"})
METRICS_PATH = "/metrics"
ADMIN_PREFIX = "/admin/"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, without the key."""

    name: str
    digest: bytes
    """SHA-256."""
    is_admin: bool = False
    requests_per_s: float | None = None
    documents_per_s: float | None = None


def read_keys(path: Path | None, entries: str) -> tuple[Key, ...]:
    """Keys of a file and of `;`-separated entries.

    Raises:
        InvalidSettingsError: the file cannot be read, or an entry is no key; the message names the line, not the key.
    """
    try:
        text = path.read_text(encoding="utf-8") if path is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettingsError(f"api_keys_file: {path}: {error}") from error
    keys = [*_parse(text.splitlines(), "api_keys_file"), *_parse(entries.split(";"), "api_keys")]
    for what, values in (("name", [key.name for key in keys]), ("key", [key.digest for key in keys])):
        if len(set(values)) < len(keys):
            raise InvalidSettingsError(f"api_keys: a {what} is there twice")
    if path is not None and not keys:
        raise InvalidSettingsError(f"api_keys_file: {path} has no key: without any, everybody would be let in")
    return tuple(keys)


def _parse(lines: Iterable[str], source: str) -> Iterable[Key]:
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words:
            try:
                yield _parse_key(words)
            except ValueError as error:
                raise InvalidSettingsError(f"{source}: entry {number}: {error}") from None


def _parse_key(words: Sequence[str]) -> Key:
    if len(words) < 2:
        raise ValueError("needs a name and a key")
    name, secret, *options = words
    limits: dict[str, float] = {}
    for option in options:
        what, _, amount = option.partition("=")
        if option != "admin" and what not in ("requests", "documents"):
            raise ValueError("an option is neither admin nor requests=N nor documents=N")
        if option != "admin":
            limits[what] = float(amount)
            if not 0 < limits[what] < float("inf"):
                raise ValueError(f"{what} must be a number above 0")
    return Key(name, _digest_of(secret), "admin" in options, limits.get("requests"), limits.get("documents"))


def _digest_of(secret: str) -> bytes:
    scheme, _, digits = secret.partition("sha256:")
    if scheme == "" and digits:
        digest = bytes.fromhex(digits)
        if len(digest) != hashlib.sha256().digest_size:
            raise ValueError("sha256: needs 64 hex digits")
        return digest
    if len(secret) < MIN_KEY_CHARACTERS:
        raise ValueError(f"the key is shorter than {MIN_KEY_CHARACTERS} characters")
    return hashlib.sha256(secret.encode()).digest()


class Caller:
    """A key with what it has left."""

    def __init__(self, key: Key, clock: Callable[[], float], num_workers: int = 1) -> None:
        self.name = key.name
        self.is_admin = key.is_admin
        per_second = {"requests": key.requests_per_s, "documents": key.documents_per_s}
        # Each worker process counts for itself, so each gives out its share.
        self._left = {
            what: Allowance(rate / num_workers, clock) for what, rate in per_second.items() if rate is not None
        }

    def charge(self, what: str, amount: int) -> None:
        """Take `amount` of `requests` or `documents`.

        Raises:
            RateLimitedError: none are left.
        """
        allowance = self._left.get(what)
        wait_s = allowance.take(amount) if allowance is not None else 0
        if wait_s:
            error = RateLimitedError(f"the key {self.name!r} has used up its {what} for now")
            error.retry_after_s = wait_s
            raise error


class Access:
    """Decides who a request is from and whether it may go on."""

    def __init__(
        self,
        keys: Sequence[Key],
        clock: Callable[[], float],
        *,
        public_metrics: bool = False,
        public_pages: Collection[str] = (),
        num_workers: int = 1,
    ) -> None:
        """`public_pages` are paths of files that hold nothing, and so never ask for a key either."""
        self._clock = clock
        self._num_workers = num_workers
        self._public_paths = PUBLIC_PATHS | ({METRICS_PATH} if public_metrics else frozenset()) | set(public_pages)
        self._callers: list[tuple[bytes, Caller]] = []
        self.replace_keys(keys)

    def replace_keys(self, keys: Sequence[Key]) -> None:
        """Know these keys from now on, each with its full allowance."""
        self._callers = [(key.digest, Caller(key, self._clock, self._num_workers)) for key in keys]

    def admit(self, path: str, headers: Mapping[str, str]) -> Caller | None:
        """The caller of a request for `path`; None for anybody, where no key is asked for.

        Raises:
            UnauthorizedError: no key, or one that is not known.
            ForbiddenError: a key that may not do this.
            RateLimitedError: the caller's requests are used up.
        """
        if path in self._public_paths:
            return None
        is_admin_path = path.startswith(ADMIN_PREFIX)
        if not self._callers:
            if is_admin_path:
                raise ForbiddenError("no key with the right `admin` is configured")
            return None
        caller = self._find(_presented_key(headers))
        if caller is None:
            raise UnauthorizedError("an API key is needed: `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        if is_admin_path and not caller.is_admin:
            raise ForbiddenError(f"the key {caller.name!r} has not the right `admin`")
        caller.charge("requests", 1)
        return caller

    def _find(self, presented: str) -> Caller | None:
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found: Caller | None = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def _presented_key(headers: Mapping[str, str]) -> str:
    """The key of a request: some clients send it bare in Authorization, some as X-API-Key or api-key."""
    authorization = headers.get("authorization", "")
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return authorization or headers.get("x-api-key", "") or headers.get("api-key", "")
