"""Explanations of grades already given: decoded beside the scoring, streamed as events.

    ExplanationRequest -> Explainer.explain -> Grade, Delta..., Step, Delta..., Step, ..., Done

Layers, each of which knows those below only: `explainer` (asyncio; text), `streams` and `turns` (the engine thread's
side; token ids), `kv_store` (KV of scored pairs), `events` (plain data).
"""
