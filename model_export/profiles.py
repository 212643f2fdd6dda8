"""Buckets of row lengths that a TensorRT engine is built for.

TensorRT chooses its kernels for one usual size per profile and refuses sizes outside a profile's range; without given
profiles ONNX Runtime builds the engine anew, for half a minute, whenever a row is longer than any before. So the
buckets are fixed at export and lie in the manifest: every row from one token to the longest falls into one, unpadded.

    tokens of a row    1-64, 65-256, 257-1024, 1025-4096; the last at least what one prompt may have
    past slots         2 to the longest, usually a query of some 30 tokens

The past of a pack is bounded like the pack itself, and may be as long in every bucket.
"""

from itertools import pairwise

from relevance.artifact import ShapeProfile
from relevance.prompt import PromptLimits

BOUNDS = (0, 64, 256, 1024, 4096)
USUAL_PAST = 32
NULL_SLOT = 1
TOKENS_A_DOCUMENT = 32
"""Roughly, of a short text: what the usual number of documents in a row is taken from."""


def make_profiles(limits: PromptLimits) -> tuple[ShapeProfile, ...]:
    """Buckets for an artifact with these limits, shortest first."""
    longest = max(BOUNDS[-1], limits.max_tokens)
    bounds = (*BOUNDS[:-1], longest)
    return tuple(
        ShapeProfile(
            num_tokens=(above + 1, (above + most + 1) // 2, most),
            num_past=(NULL_SLOT, NULL_SLOT + USUAL_PAST, NULL_SLOT + longest),
            num_read=(1, max(1, most // TOKENS_A_DOCUMENT), most),
        )
        for above, most in pairwise(bounds)
    )
