"""What runs beside the requests as long as the server does, and how the optional ones are opened."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.base import Engine
from engine.opening import open_engine
from relevance.artifact import Artifact
from service.deployment import check_contract
from service.errors import UnusableArtifactError
from service.settings import InvalidSettingsError, Settings
from service.shadow import Shadow
from service.shadow_metrics import ShadowMetrics

if TYPE_CHECKING:
    from service.tracing import Tracing


class Beside(Protocol):
    """Something with a start and an end, on the event loop."""

    def start(self) -> None:
        """Begin, once the loop runs."""
        ...

    def stop(self) -> None:
        """End; must not wait for long."""
        ...


def open_shadow(
    settings: Settings,
    current: Artifact,
    load: Callable[[Path], Artifact],
    engine_factory: Callable[[Artifact], Engine] | None,
    metrics: ShadowMetrics,
) -> Shadow | None:
    """The candidate beside `current`, if there is one.

    Raises:
        ArtifactError: it cannot be loaded.
        InvalidSettingsError: it grades otherwise.
    """
    if settings.shadow_artifact is None:
        return None
    candidate = load(settings.shadow_artifact)
    try:
        check_contract(current, candidate)
    except UnusableArtifactError as error:
        raise InvalidSettingsError(f"shadow_artifact: {error}") from error
    build = engine_factory or (
        lambda built: open_engine(built, settings.device, num_threads=1, cache=settings.tensorrt_cache)
    )
    return Shadow(candidate, build, metrics, share=settings.shadow_share, draw=random.random)


def open_tracing(settings: Settings, clock: Callable[[], float]) -> "Tracing | None":
    """Where traces go, if they go anywhere.

    Raises:
        InvalidSettingsError: the extra `otel` is not installed.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        from service.tracing import Tracing, send_to  # noqa: PLC0415 - an extra, loaded where it is asked for
    except ImportError as error:
        raise InvalidSettingsError("otlp_endpoint: needs the extra `otel`") from error
    return Tracing(send_to(settings.otlp_endpoint), clock)
