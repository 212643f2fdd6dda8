"""One answer's way through the grammar: what is said next, chosen where there is a choice. Pure, but for its generator.

    path = AnswerPath(grammar, label_token_id, sampling)     next_ids: the grade's token and what it forces
    said = path.go_on(logits)                                those of path.allowed; what follows: one chosen, then
                                                             what that forces
    ... until path.is_done, or path.error says why not

What is in `next_ids` has been said and is still to go through the model.
"""

import numpy as np
from numpy.typing import NDArray

from relevance.grammar import PairGrammar
from service.errors import ExplanationCutError
from service.explaining.events import Sampling


class AnswerPath:
    """The tokens of one answer."""

    def __init__(self, grammar: PairGrammar, label_token_id: int, sampling: Sampling, max_tokens: int) -> None:
        """`max_tokens`: behind the grade, of the caller's and of the positions that are left the lesser."""
        self._grammar = grammar
        self._temperature = sampling.temperature
        self._random = np.random.default_rng(sampling.seed)
        self._max_tokens = max_tokens
        self._forced, self._state = grammar.forced_run(grammar.start())
        self.next_ids: list[int] = [label_token_id, *self._forced]
        self.allowed = self._find_allowed()
        """The tokens [A] of which the next one behind `next_ids` is chosen; none once it is done."""
        self.num_tokens = 0
        """Said, behind the grade."""
        self.num_chosen = 0
        self.error: ExplanationCutError | None = None
        """Why it ended before its time."""
        self._unsaid = list(self._forced)

    @property
    def is_done(self) -> bool:
        """Whether the explanation is complete."""
        return self.error is None and self._grammar.is_done(self._state)

    def go_on(self, logits: NDArray[np.float32]) -> list[int]:
        """What is said once `next_ids` have gone through the model, whose logits [A] of `allowed` are given."""
        token = int(self.allowed[self._choose(logits)])
        run, self._state = self._grammar.forced_run(self._grammar.advance(self._state, token))
        self.num_chosen += 1
        self.next_ids = [token, *run]
        self.allowed = self._find_allowed()
        said = [*self._unsaid, *self.next_ids]
        self._unsaid = []
        if self.num_tokens + len(said) > self._max_tokens:
            said = said[: self._max_tokens - self.num_tokens]
            self.error = ExplanationCutError(f"it did not end within {self._max_tokens} tokens")
        self.num_tokens += len(said)
        return said

    def _find_allowed(self) -> NDArray[np.int64]:
        return np.array(self._grammar.allowed(self._state), dtype=np.int64)

    def _choose(self, logits: NDArray[np.float32]) -> int:
        """Which of the allowed tokens' logits [A]."""
        if self._temperature <= 0.0:
            return int(np.argmax(logits))
        scaled = logits.astype(np.float64) / self._temperature
        ends = np.cumsum(np.exp(scaled - scaled.max()))
        drawn = int(np.searchsorted(ends, self._random.random() * ends[-1], side="right"))
        return min(drawn, len(ends) - 1)  # rounding may put what is drawn at the very end
