"""The part of the composition root that puts the surface of explanations together."""

import secrets
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from service.errors import concrete_errors
from service.explain_api.handles import MAX_SEED, MIN_KEY_BYTES, Signer
from service.explain_api.metrics import ExplainMetrics
from service.explain_api.routes import Surface
from service.explain_api.sharing import Explanations
from service.explain_api.subjects import Subjects
from service.explain_api.texts import PairTexts
from service.settings import InvalidSettingsError, Settings
from service.siblings import PAIR_TIMEOUT_S, Peers, SiblingError

KEY_BYTES = 32


def open_surface(
    settings: Settings, registry: CollectorRegistry, clock: Callable[[], float], siblings: Peers | None
) -> Surface:
    """What the routes of explanations work with.

    Raises:
        InvalidSettingsError: `handle_key` is too short.
    """
    metrics = ExplainMetrics(registry, ["ok", "cancelled", *(error.code for error in concrete_errors())])

    async def ask(worker: int, digest: str) -> str | None:
        if siblings is None:
            return None
        try:
            return await siblings.ask(worker, "pair", digest, PAIR_TIMEOUT_S)
        except SiblingError:
            return None

    texts = PairTexts(settings.explain_texts_mib * 2**20, 0 if siblings is None else siblings.index, ask)
    explanations = Explanations(settings.explain_cache_mib * 2**20, metrics, clock)
    metrics.watch("handle_texts_bytes", "Memory held by the texts behind handles.", lambda: texts.num_bytes)
    metrics.watch("explanation_cache_bytes", "Memory held by explanations told.", lambda: explanations.num_bytes)
    metrics.watch(
        "explanations_under_way", "Explanations that are decoded or wait to be.", lambda: explanations.num_under_way
    )
    subjects = Subjects(Signer(_key_of(settings, siblings)), texts, metrics)
    return Surface(subjects, explanations, metrics, lambda: secrets.randbelow(MAX_SEED + 1))


def _key_of(settings: Settings, siblings: Peers | None) -> bytes:
    key = settings.handle_key.get_secret_value().encode()
    if key:
        if len(key) < MIN_KEY_BYTES:
            raise InvalidSettingsError(f"handle_key: shorter than {MIN_KEY_BYTES} characters")
        return key
    fresh = secrets.token_bytes(KEY_BYTES)
    return fresh if siblings is None else siblings.shared_key(fresh)
