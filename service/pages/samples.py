"""Sample queries for the playground, from the model card of the artifact that is served.

A card may have a section of this form; whoever makes an artifact knows best what it is good at:

    ## Sample queries
    - **usb c charging cable**
        1. USB-C to USB-C cable, 2 m, 60 W, braided
        2. HDMI 2.1 cable, 8K
"""

import re
from dataclasses import dataclass
from pathlib import Path

from relevance.artifact import CARD_FILE

_SECTION = re.compile(r"^## Sample queries$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_QUERY = re.compile(r"^- \*\*(.+)\*\*$")
_DOCUMENT = re.compile(r"^ +\d+\. (.+)$")


@dataclass(frozen=True, slots=True)
class Sample:
    """A query with documents worth ranking for it."""

    query: str
    documents: tuple[str, ...]


def read_samples(folder: Path) -> tuple[Sample, ...]:
    """The samples in the card of the artifact in `folder`; none where there is no card, or no such section."""
    try:
        card = (folder / CARD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    section = _SECTION.search(card)
    found: list[tuple[str, list[str]]] = []
    for line in section[1].splitlines() if section else ():
        if query := _QUERY.match(line):
            found.append((query[1], []))
        elif (document := _DOCUMENT.match(line)) and found:
            found[-1][1].append(document[1])
    return tuple(Sample(query, tuple(documents)) for query, documents in found if documents)
