"""API keys: what is read, who is found, and that no key shows up anywhere."""

import hashlib
from pathlib import Path

import pytest

from service.access import Access, Key, read_keys
from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from service.settings import InvalidSettingsError
from tests.fakes import FakeClock

KEY, ADMIN_KEY = "k" * 24, "a-longer-key-for-the-admin"


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_keys_come_from_the_file_and_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        f"# callers\nshop {KEY} requests=5 documents=200.5\n\nops sha256:{sha256(ADMIN_KEY).hex()} admin  # deploys\n"
    )
    assert read_keys(path, "batch another-key-of-length;; ") == (
        Key("shop", sha256(KEY), False, 5.0, 200.5),
        Key("ops", sha256(ADMIN_KEY), True),
        Key("batch", sha256("another-key-of-length")),
    )
    assert read_keys(None, "") == ()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("shop", "needs a name and a key"),
        ("shop secret-short", "shorter than 16"),
        (f"shop {KEY} root", "neither admin nor"),
        (f"shop {KEY} requests=many", "could not convert"),
        (f"shop {KEY} requests=0", "above 0"),
        (f"shop {KEY} documents=inf", "above 0"),
        (f"shop {KEY} documents=nan", "above 0"),
        ("shop sha256:abcd", "64 hex digits"),
        ("shop sha256:xyz", "hex"),
        (f"a {KEY}; a {ADMIN_KEY}", "a name is there twice"),
        (f"a {KEY}; b {KEY}", "a key is there twice"),
    ],
)
def test_what_is_no_key_stops_the_start_without_being_shown(entries: str, reason: str) -> None:
    with pytest.raises(InvalidSettingsError, match=reason) as raised:
        read_keys(None, entries)
    assert KEY not in str(raised.value)
    assert "secret-short" not in str(raised.value)


def test_a_key_file_that_lets_everybody_in_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# none yet\n")
    for name, reason in (("empty", "has no key"), ("missing", "No such file")):
        with pytest.raises(InvalidSettingsError, match=reason):
            read_keys(tmp_path / name, "")


def access(*, public_metrics: bool = False, clock: FakeClock | None = None, num_workers: int = 1) -> Access:
    keys = [Key("shop", sha256(KEY), False, 3.0, 10.0), Key("ops", sha256(ADMIN_KEY), True)]
    return Access(keys, clock or FakeClock(), public_metrics=public_metrics, num_workers=num_workers)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"authorization": KEY},
        {"x-api-key": KEY},
        {"api-key": KEY},
    ],
)
def test_every_way_in_which_clients_send_a_key(headers: dict[str, str]) -> None:
    caller = access().admit("/score", headers)
    assert caller is not None
    assert caller.name == "shop"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"x-api-key": sha256(KEY).hex()},
        {"authorization": f"Bearer sha256:{sha256(KEY).hex()}"},
        {"authorization": "Bearer k\udce9y"},
    ],
)
@pytest.mark.parametrize("path", ["/score", "/metrics", "/nowhere", "/docs", "/livez/", "/admin/artifact"])
def test_nothing_else_is_let_in(headers: dict[str, str], path: str) -> None:
    with pytest.raises(UnauthorizedError):
        access().admit(path, headers)


def test_no_other_key_is_let_in_by_chance() -> None:
    doors = access()
    for number in range(2_000):  # some share the first bytes of their digest with a known one
        with pytest.raises(UnauthorizedError):
            doors.admit("/score", {"x-api-key": f"guess-{number}"})


def test_public_paths_ask_for_nothing() -> None:
    for path in ("/livez", "/readyz", "/health", "/ping"):
        assert access().admit(path, {"authorization": "Bearer wrong"}) is None
    assert access(public_metrics=True).admit("/metrics", {}) is None


def test_admin_asks_for_the_right_even_where_no_key_is_configured() -> None:
    with pytest.raises(ForbiddenError, match="no key with the right"):
        Access([], FakeClock()).admit("/admin/artifact", {"x-api-key": KEY})
    assert Access([], FakeClock()).admit("/score", {}) is None
    with pytest.raises(ForbiddenError, match="'shop' has not"):
        access().admit("/admin/artifact", {"x-api-key": KEY})
    caller = access().admit("/admin/artifact", {"x-api-key": ADMIN_KEY})
    assert caller is not None
    assert caller.is_admin


def test_a_key_has_its_allowance_and_the_next_one_its_own() -> None:
    clock = FakeClock()
    doors = access(clock=clock)
    for _ in range(6):
        doors.admit("/score", {"x-api-key": KEY})
    with pytest.raises(RateLimitedError, match="'shop' has used up its requests") as raised:
        doors.admit("/score", {"x-api-key": KEY})
    assert raised.value.retry_after_s == 1
    assert doors.admit("/score", {"x-api-key": ADMIN_KEY}) is not None
    clock.now += 1
    caller = doors.admit("/score", {"x-api-key": KEY})
    assert caller is not None
    caller.charge("documents", 1000)
    with pytest.raises(RateLimitedError, match="documents") as raised:
        caller.charge("documents", 1)
    assert raised.value.retry_after_s == 99


def test_workers_share_an_allowance() -> None:
    doors = access(num_workers=3)
    for _ in range(2):
        doors.admit("/score", {"x-api-key": KEY})
    with pytest.raises(RateLimitedError):
        doors.admit("/score", {"x-api-key": KEY})


def test_replaced_keys_are_known_and_old_ones_are_not() -> None:
    doors = access()
    doors.replace_keys([Key("new", sha256("n" * 16))])
    assert doors.admit("/score", {"x-api-key": "n" * 16}) is not None
    with pytest.raises(UnauthorizedError):
        doors.admit("/score", {"x-api-key": KEY})
