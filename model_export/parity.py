"""The parity gate: does the exported graph say what the checkpoint says?

    torch float32    the Hugging Face model itself, one pair at a time, the whole prompt under a 4-D mask
      -> onnx fp32   packed with other pairs behind shared prefixes, as the service runs it
      -> int8, int4, fp16, bf16  the same graph at the published precision

Each step compares grade distributions on the same pairs. A *decided flip* is a pair whose grade differs although
the first form preferred its grade to the other's by more than `near_tie`: which of two equally likely grades
comes out on top says nothing about agreement. All flips are reported, decided ones are judged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from model_export.checkpoint import Checkpoint
from model_export.errors import GateError
from modeling.forward import DOCUMENT, PREFIX, SUFFIX, next_token_logits
from relevance.artifact import Agreement
from relevance.metrics import kendall_tau
from relevance.pair import Pair
from relevance.scoring import FloatArray, expected_score, grade_distribution, most_likely_grade


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What one comparison may show at most (at least, for tau)."""

    max_difference: float
    """Of any grade's probability."""
    mean_difference: float
    decided_flips: float
    """Share of pairs."""
    near_tie: float
    """Preference, a difference of two probabilities, below which a flip is no disagreement."""
    kendall_tau: float
    """Of the scores, at least."""


DEFAULT_THRESHOLDS = {
    "fp32": Thresholds(max_difference=1e-4, mean_difference=1e-5, decided_flips=0.0, near_tie=2e-4, kendall_tau=0.99),
    "fp16": Thresholds(max_difference=0.02, mean_difference=2e-3, decided_flips=0.0, near_tie=0.02, kendall_tau=0.98),
    "bf16": Thresholds(max_difference=0.1, mean_difference=1e-2, decided_flips=0.01, near_tie=0.05, kendall_tau=0.95),
    "int8": Thresholds(max_difference=0.2, mean_difference=0.02, decided_flips=0.02, near_tie=0.05, kendall_tau=0.95),
    # Sixteen steps a weight: for where memory matters more, and so looser. docs/export.md has what the default showed.
    "int4": Thresholds(max_difference=0.4, mean_difference=0.05, decided_flips=0.05, near_tie=0.1, kendall_tau=0.9),
}


def torch_distributions(checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Iterator[FloatArray]:
    """Grade distribution [K] of each pair from the model itself, one pair at a time."""
    encoder = checkpoint.spec.encoder(checkpoint.tokenizer)
    for pair in pairs:
        prefix = encoder.encode_prefix(pair.query, pair.instruction)
        document = encoder.encode_documents(prefix, [pair.document])[0]
        logits = _label_logits(checkpoint, prefix.ids, document.ids)
        yield grade_distribution(logits, checkpoint.spec.temperature)


@torch.inference_mode()
def _label_logits(checkpoint: Checkpoint, prefix: tuple[int, ...], document: tuple[int, ...]) -> FloatArray:
    num_suffix = len(checkpoint.tokenizer.encode_literal(checkpoint.spec.template.suffix))
    segments = [PREFIX] * len(prefix) + [DOCUMENT] * (len(document) - num_suffix) + [SUFFIX] * num_suffix
    ids, segment_ids = torch.tensor([prefix + document]), torch.tensor([segments])
    last = torch.tensor([len(segments) - 1])
    logits = next_token_logits(checkpoint.model, ids, segment_ids, last, checkpoint.spec.attention)
    return np.asarray(logits[0, list(checkpoint.label_token_ids)].double().numpy(), dtype=np.float64)


def compare(compared: str, reference: FloatArray, other: FloatArray) -> Agreement:
    """How `other` [N, K] agrees with `reference` [N, K].

    Raises:
        GateError: a probability that is not a number.
    """
    if not (np.isfinite(reference).all() and np.isfinite(other).all()):
        raise GateError(f"parity gate, {compared}: probabilities that are not finite")
    differences = np.abs(reference - other)
    return Agreement(
        compared=compared,
        num_pairs=len(reference),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        grade_flips=float(np.mean(most_likely_grade(reference) != most_likely_grade(other))),
        kendall_tau=min(1.0, kendall_tau(expected_score(reference), expected_score(other))),  # rounding
    )


def decided_flips(reference: FloatArray, other: FloatArray, near_tie: float) -> float:
    """Share of pairs whose grade differs though `reference` preferred its own by more than `near_tie`."""
    rows = np.arange(len(reference))
    preference = reference[rows, most_likely_grade(reference)] - reference[rows, most_likely_grade(other)]
    return float(np.mean(preference > near_tie))


def check(agreement: Agreement, flips: float, thresholds: Thresholds) -> None:
    """Let an agreement pass, or say which figure is past its threshold.

    Raises:
        GateError: at least one is.
    """
    found = {
        "max_difference": agreement.max_difference,
        "mean_difference": agreement.mean_difference,
        "decided_flips": flips,
    }
    limits = asdict(thresholds)
    failed = [f"{name} {value:.3g} > {limits[name]:.3g}" for name, value in found.items() if not value <= limits[name]]
    if not agreement.kendall_tau >= thresholds.kendall_tau:
        failed.append(f"kendall_tau {agreement.kendall_tau:.4f} < {thresholds.kendall_tau:.4f}")
    if failed:
        raise GateError(f"parity gate, {agreement.compared}, {agreement.num_pairs} pairs: {'; '.join(failed)}")
