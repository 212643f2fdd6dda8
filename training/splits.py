"""The one rule of splits: a test file is for the last figure, so nothing is trained, tuned or mined on it."""

import re
from collections.abc import Iterable
from pathlib import PurePath

_TEST = re.compile(r"(?<![a-z])test(?![a-z])")


def refuse_test_files(names: Iterable[str]) -> None:
    """Stop where a file of a test split is among `names`.

    Raises:
        ValueError: a file whose name has the word test; the message names it.
    """
    for name in names:
        if _TEST.search(PurePath(name).name.lower()):
            raise ValueError(f"{name}: a test split is never trained, tuned or mined on")
