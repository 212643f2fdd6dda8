"""Shadow mode: a candidate artifact scores a share of the traffic, nobody sees its answers, and the drift is exported.

    a request is answered -> drawn for the share? -> room in the queue? -> the candidate scores it later -> compared

Off the request path: the answer is made before the candidate hears of the request. Below it in priority: the
candidate is one thread of the lowest priority, takes one request at a time, and what finds its queue full is
dropped. Whatever goes wrong with it is counted and logged, and changes nothing for anybody.
"""

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import numpy as np

from engine.base import Engine
from engine.local import LocalScorer, self_test
from relevance.artifact import Artifact
from relevance.pair import Pair
from relevance.scoring import FloatArray, IntArray, expected_score, most_likely_grade
from service.errors import EngineFailedError, NotReadyError, OverloadedError
from service.score import ScoredRequest
from service.shadow_metrics import ShadowMetrics
from service.tokenise import DEFAULT_CUT, Cut

logger = logging.getLogger(__name__)

# Requests that wait for the candidate. Few: what it cannot keep up with is better left out than late.
MAX_WAITING = 8
LOWEST_PRIORITY = 19


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Pairs that were answered, and how."""

    pairs: Sequence[Pair]
    grades: IntArray
    scores: FloatArray


@dataclass(frozen=True, slots=True)
class _Question:
    """Pairs that somebody waits for."""

    pairs: Sequence[Pair]
    answer: Future[FloatArray]


class Shadow:
    """The candidate, and the thread it lives in."""

    def __init__(
        self,
        artifact: Artifact,
        build: Callable[[Artifact], Engine],
        metrics: ShadowMetrics,
        *,
        share: float,
        draw: Callable[[], float],
    ) -> None:
        """`build` runs in the candidate's thread; `draw` gives numbers in [0, 1), and those below `share` count."""
        self.artifact = artifact
        self._build = build
        self._metrics = metrics
        self._share = share
        self._draw = draw
        self._jobs: queue.Queue[_Comparison | _Question | None] = queue.Queue(MAX_WAITING)
        self._is_stopping = False
        # Held while a question is put, and while those that are left are failed: none is forgotten in between.
        self._asking = threading.Lock()
        self.is_ready = False
        """It may be asked."""
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Load and test the candidate in its thread."""
        self._thread.start()

    def offer(self, pairs: Sequence[Pair], cut: Cut, scored: ScoredRequest) -> None:
        """Maybe have the candidate score what has just been answered."""
        if self._draw() >= self._share:
            return
        scores = scored.pairs.scores
        # A document cut otherwise is another document, and one without a score compares with nothing.
        if cut != DEFAULT_CUT or not np.isfinite(scores).all():
            self._metrics.count("skipped")
            return
        try:
            self._jobs.put_nowait(_Comparison(pairs, scored.pairs.grades, scores))
        except queue.Full:
            self._metrics.count("dropped")

    def ask(self, pairs: Sequence[Pair]) -> Future[FloatArray]:
        """Its grade distributions [N, K] of `pairs`, in its own time; EngineFailedError where it fails on them.

        Raises:
            NotReadyError: it is loading, has ended, or is about to.
            OverloadedError: enough waits for it.
        """
        answer: Future[FloatArray] = Future()
        with self._asking:
            if not self.is_ready or self._is_stopping:
                raise NotReadyError("the candidate is not ready")
            try:
                self._jobs.put_nowait(_Question(pairs, answer))
            except queue.Full:
                raise OverloadedError("enough waits for the candidate", drained_in_s=1.0) from None
        return answer

    def stop(self) -> None:
        """End the thread after the request it is scoring; what waits is dropped. Does not wait for it."""
        self._is_stopping = True
        with contextlib.suppress(queue.Full):  # it looks at the flag before the next
            self._jobs.put_nowait(None)

    def _run(self) -> None:
        engine: Engine | None = None
        try:
            _be_the_last()
            engine = self._build(self.artifact)
            self_test(self.artifact, engine)
            self.is_ready = True
            self._metrics.tell(is_ready=True)
            logger.info("shadow_ready", extra={"fields": {"model": self.artifact.model_id}})
            self._work(LocalScorer(self.artifact, engine))
        except Exception as error:
            logger.error("shadow_ended", exc_info=error)
            self._metrics.tell(is_ready=False)
        finally:
            self._refuse_what_waits()
            if engine is not None:
                engine.close()

    def _work(self, scorer: LocalScorer) -> None:
        while (job := self._jobs.get()) is not None:
            if self._is_stopping:
                _refuse(job)
                return
            if isinstance(job, _Question):
                _reply(scorer, job)
            else:
                self._compare(scorer, job)

    def _refuse_what_waits(self) -> None:
        with self._asking:
            self.is_ready = False
            with contextlib.suppress(queue.Empty):
                while True:
                    _refuse(self._jobs.get_nowait())

    def _compare(self, scorer: LocalScorer, job: _Comparison) -> None:
        try:
            distributions = scorer.distributions(job.pairs)
        except Exception as error:  # a candidate may fail on a request as any engine may
            logger.error("shadow_failed", exc_info=error)
            self._metrics.count("failed")
            return
        self._metrics.count("scored")
        self._metrics.observe(expected_score(distributions) - job.scores, most_likely_grade(distributions) - job.grades)


def _reply(scorer: LocalScorer, question: _Question) -> None:
    if not question.answer.set_running_or_notify_cancel():  # nobody waits for it any more
        return
    try:
        question.answer.set_result(scorer.distributions(question.pairs))
    except Exception as error:
        logger.error("shadow_failed", exc_info=error)
        question.answer.set_exception(EngineFailedError("the candidate failed on these pairs"))


def _refuse(job: _Comparison | _Question | None) -> None:
    if isinstance(job, _Question):
        with contextlib.suppress(InvalidStateError):  # cancelled: nobody waits for it any more
            job.answer.set_exception(NotReadyError("the candidate has ended"))


def _be_the_last() -> None:
    """Give this thread, and those it starts, the processor only when nobody else wants it."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
