"""The watchdog notices a blocked loop, says where it hangs, and is quiet otherwise."""

import asyncio
import logging
import threading

import pytest

from service.watchdog import Watchdog, WatchTimes


async def test_lag_is_observed_on_the_loop() -> None:
    lags: list[float] = []
    threads: set[int] = set()
    enough = asyncio.Event()

    def observe(lag_s: float) -> None:
        lags.append(lag_s)
        threads.add(threading.get_ident())
        if len(lags) == 3:
            enough.set()

    stalls: list[float] = []
    watchdog = Watchdog(WatchTimes(0.001, 5.0), observe, lambda: stalls.append(0), stalls.append)
    watchdog.start()
    await asyncio.wait_for(enough.wait(), 10)
    watchdog.stop()
    assert all(lag >= 0 for lag in lags)
    assert threads == {threading.get_ident()}
    assert stalls == []


async def test_a_blocked_loop_is_told_once_with_its_stack_and_then_its_end(caplog: pytest.LogCaptureFixture) -> None:
    stalls: list[int] = []
    late: list[float] = []
    ended = threading.Event()

    def end(late_s: float) -> None:
        late.append(late_s)
        ended.set()

    watchdog = Watchdog(WatchTimes(0.001, 0.02, 0.2), lambda _: None, lambda: stalls.append(1), end)
    watchdog.start()
    with caplog.at_level(logging.ERROR):
        block_the_loop(ended)
    watchdog.stop()
    assert stalls == [1]
    assert late[0] >= 0.2
    (record,) = caplog.records
    assert record.getMessage() == "loop_stalled"
    assert "block_the_loop" in record.__dict__["fields"]["stack"]


def block_the_loop(until: threading.Event) -> None:
    assert until.wait(10), "nobody noticed"


async def test_without_a_limit_a_stall_is_survived() -> None:
    stalled, again = threading.Event(), asyncio.Event()
    watchdog = Watchdog(WatchTimes(0.001, 0.02), lambda _: again.set(), stalled.set, lambda _: pytest.fail("ended"))
    watchdog.start()
    block_the_loop(stalled)
    again.clear()
    await asyncio.wait_for(again.wait(), 10)
    watchdog.stop()
