"""What can go wrong in the shared core.

    RelevanceError
     ├── PromptError            a text that cannot be rendered (an instruction the template has no place for)
     ├── LabelTokenError        a grade's label token is not exactly one token id
     ├── TokenizerError         a tokenizer file that cannot be used safely
     ├── ExplanationError       a text that is no explanation of the fixed form
     └── ArtifactError          an artifact that is missing, damaged, or of a format not known here

Every message says what was found, what was expected and, where there is one, the field.
"""


class RelevanceError(Exception):
    """Base of all errors of the shared core."""


class PromptError(RelevanceError, ValueError):
    """A pair cannot be rendered with this template; `field` names the request field at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class LabelTokenError(RelevanceError, ValueError):
    """A grade's label does not encode to exactly one token id, or two grades share one."""


class TokenizerError(RelevanceError, ValueError):
    """A tokenizer file is unreadable or would let user text produce control tokens."""


class ExplanationError(RelevanceError, ValueError):
    """A text or object is no explanation; `step` names the step at fault, `reason` says what is wrong with it."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step, self.reason = step, reason


class ArtifactError(RelevanceError):
    """An artifact cannot be loaded; the message names the file or manifest field and why."""
