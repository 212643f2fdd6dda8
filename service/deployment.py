"""Which model serves: the one that new requests lease, and those that older requests still hold."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.live_model import LiveModel


class Deployment:
    """The current model, and those being drained behind it."""

    def __init__(self, first: LiveModel) -> None:
        self.current = first
        self._draining: list[LiveModel] = []

    @contextmanager
    def lease(self) -> Iterator[LiveModel]:
        """The current model, kept alive for one request."""
        with self.current.lease() as model:
            yield model

    @property
    def num_waiting_tokens(self) -> int:
        """Document tokens that wait for an engine, whichever."""
        return sum(model.scheduler.num_waiting_tokens for model in self._models)

    @property
    def num_waiting_documents(self) -> int:
        """Documents that wait for an engine, whichever."""
        return sum(model.scheduler.num_waiting_documents for model in self._models)

    @property
    def prefix_cache_bytes(self) -> int:
        """Memory held by the KV of past queries."""
        return sum(model.prefix_cache.num_bytes for model in self._models)

    @property
    def _models(self) -> tuple[LiveModel, ...]:
        return (self.current, *self._draining)

    async def close(self) -> None:
        """Close every model."""
        for model in self._models:
            await model.close()
