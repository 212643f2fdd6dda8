"""Whose turn the engine is, between two calls: scores that wait, or explanations under way. Pure; no clock.

Nothing waits          explanations take every turn.
Scores wait            they go first, but for a share s of the engine's time: t seconds of scoring earn explanations
                       t * s / (1 - s), and a step is due once it has been earned. What is earned is never more than
                       one usual step, so however long explanations were away, a score waits for at most the step that
                       runs and one more.

A step longer than usual (a pair computed once more) runs once a usual one is earned, and is paid off afterwards.
"""

# How fast the usual step follows the steps.
GAIN = 0.1


class Turns:
    """The account of one engine."""

    def __init__(self, share: float, usual_step_s: float = 0.003) -> None:
        """`share`, 0 to 1, of the engine's time is for explanations while scores wait."""
        self._share = share
        self._usual_step_s = usual_step_s
        self._earned_s = 0.0

    def is_steps_turn(self, scores_wait: bool) -> bool:
        """Whether a step of explanations goes before the scores, if any wait."""
        if not scores_wait or self._share >= 1.0:
            return True
        return self._share > 0.0 and self._earned_s >= self._usual_step_s

    def has_scored(self, seconds: float) -> None:
        """The engine spent `seconds` on scores."""
        if self._share < 1.0:
            earned = self._earned_s + seconds * self._share / (1.0 - self._share)
            self._earned_s = min(earned, self._usual_step_s)

    def has_stepped(self, seconds: float, scores_waited: bool) -> None:
        """A step took `seconds`; `scores_waited` when it began."""
        if scores_waited:
            self._earned_s -= seconds
        self._usual_step_s += GAIN * (seconds - self._usual_step_s)
