"""Which dialect a request speaks: told by its path, and where several share one, by the fields of its body.

At a path exactly one entry takes `anything_else`. Among the others at most one may claim a body; that they do not
overlap is for their tests to show. What has no fields to tell by (an unknown path, a body that does not parse)
belongs to the dialect of the path, then of the longest family the path begins with, then to the native one.
"""

from collections.abc import Iterable, Sequence

from service.dialect import Dialect, Entry, anything_else
from service.wire import Fields


class Dispatch:
    """The dialects of one service, by path."""

    def __init__(self, dialects: Iterable[Dialect], fallback: str = "native") -> None:
        """Index the dialects.

        Raises:
            ValueError: a path without exactly one entry that takes anything else, or no dialect called `fallback`.
        """
        self.dialects: Sequence[Dialect] = tuple(dialects)
        by_name = {dialect.name: dialect for dialect in self.dialects}
        if fallback not in by_name:
            raise ValueError(f"no dialect {fallback!r} among {sorted(by_name)}")
        self._fallback = by_name[fallback]
        self._at: dict[str, list[tuple[Dialect, Entry]]] = {}
        for dialect in self.dialects:
            for entry in dialect.entries:
                for path in entry.paths:
                    self._at.setdefault(path, []).append((dialect, entry))
        for path, found in self._at.items():
            # What takes anything else stands last.
            found.sort(key=lambda one: one[1].paths[path] is anything_else)
            defaults = [dialect.name for dialect, entry in found if entry.paths[path] is anything_else]
            if len(defaults) != 1:
                raise ValueError(f"{path} needs one entry that takes anything else, has {defaults}")

    @property
    def paths(self) -> Sequence[str]:
        """Every POST path."""
        return tuple(self._at)

    def entries(self, path: str) -> Sequence[tuple[Dialect, Entry]]:
        """What is taken at `path`, what takes anything else last."""
        return tuple(self._at[path])

    def match(self, path: str, fields: Fields) -> tuple[Dialect, Entry]:
        """Whose a body is."""
        return next(one for one in self._at[path] if one[1].paths[path](fields))

    def dialect_of(self, path: str) -> Dialect:
        """Whose a request is as far as its path tells."""
        if path in self._at:
            return self._at[path][-1][0]
        for dialect in self.dialects:
            if path in dialect.facts:
                return dialect
        families = [
            (len(prefix), dialect)
            for dialect in self.dialects
            for prefix in dialect.families
            if path.startswith(prefix)
        ]
        return max(families, key=lambda one: one[0])[1] if families else self._fallback
