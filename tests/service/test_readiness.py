"""Readiness only moves forward."""

from service.readiness import Readiness


def test_it_is_ready_between_the_self_test_and_the_stop() -> None:
    readiness = Readiness()
    seen = [readiness.is_ready]
    for stage in ("warming_up", "self_testing", "ready", "stopping"):
        readiness.enter(stage, "")
        seen.append(readiness.is_ready)
    assert seen == [False, False, False, True, False]


def test_it_never_goes_back() -> None:
    readiness = Readiness()
    readiness.enter("stopping", "shutting down")
    readiness.enter("ready", "the engine was late")
    assert readiness.status.stage == "stopping"
    readiness.enter("failed", "why")
    readiness.enter("stopping", "shutting down")
    assert (readiness.status.stage, readiness.status.detail) == ("failed", "why")
