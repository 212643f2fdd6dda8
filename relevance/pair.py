"""The unit of work: one query with one document."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a candidate document, with an optional task instruction.

    `instruction` is the caller's own words on what counts as relevant; None means the template's default.
    """

    query: str
    document: str
    instruction: str | None = None

    def content_key(self) -> bytes:
        """16 bytes that identify the texts: equal for equal pairs, different (up to hashing) for any other.

        Lengths are hashed along with the texts, so that moving a character from the query to the document
        changes the key.
        """
        digest = hashlib.blake2b(digest_size=16)
        for text in (self.instruction, self.query, self.document):
            data = b"" if text is None else text.encode("utf-8", "surrogatepass")
            digest.update(b"-" if text is None else f"{len(data)}:".encode())
            digest.update(data)
        return digest.digest()
