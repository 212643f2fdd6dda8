"""The wire formats spoken: every module of this package is one, and defines it as `DIALECT`."""

import pkgutil
from importlib import import_module

from service.dialect import Dialect


def discover() -> tuple[Dialect, ...]:
    """All dialects, by name of their module."""
    found: list[Dialect] = []
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        dialect = import_module(f"{__name__}.{module}").DIALECT
        if not isinstance(dialect, Dialect):
            raise TypeError(f"{module}.DIALECT is no Dialect")
        found.append(dialect)
    return tuple(found)
