"""The artifact: the one interface between offline and online.

An artifact is a folder:

    manifest.json     everything below, and the sha256 of every other file
    tokenizer.json    the vocabulary
    model.onnx        the graph (see `GraphInfo` for its inputs and outputs)
    decode.onnx       the same model for answers that grow, if there is one (`model_export.answer_graph` says how it
                      differs); without it they grow by model.onnx, and slower
    weights.bin       the weights of both, each once (`model_export.weights`); a graph may as well have them within, or
                      in a file of another name

A README.md, the model card, may lie beside them; nothing reads it.

Loading verifies every hash and refuses any field, file or format version it does not know, saying which and
why: a scorer that starts has the bytes that passed the parity gate. Nothing in an artifact is code.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relevance.errors import ArtifactError
from relevance.spec import ScoringSpec, describe
from relevance.tokenization import JsonTokenizer

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
GRAPH_FILE = "model.onnx"
ANSWER_GRAPH_FILE = "decode.onnx"
WEIGHTS_FILE = "weights.bin"
CARD_FILE = "README.md"

Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Target = Literal["cpu", "cuda", "tensorrt"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Frozen):
    """One file of the artifact."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_bytes: int = Field(ge=0)


class GraphInfo(_Frozen):
    """What an engine must know of the graph; the same for every backbone.

    S tokens of any number of prompts lie packed in one row, behind P past tokens. N of them are read.

    Inputs:
        input_ids                    int64 [1, S]
        position_ids                 int64 [1, S]
        attention_bias               float [1, 1, S, P + S], 0 where token s may look, else `masked_bias`
        output_positions             int64 [N], which of the S tokens to read
        lower_bias                   as attention_bias, for the encoder layers; only if num_encoder_layers > 0
        compared_tokens              float32 [N, S], 1 for the document's own tokens; only if num_encoder_layers > 0
        past_key_values.{l}.key      float [1, num_kv_heads, P, head_dim]   and `.value`, for each layer l
        vocab_rows                   int64 [M], optional: which of the N to multiply by the vocabulary head; none.
                                     Not optional for the target tensorrt, and at least one
    Outputs:
        label_logits                 float32 [N, K]
        vocab_logits                 float32 [M, vocab_size]
        present.{l}.key              float [1, num_kv_heads, P + S, head_dim]   and `.value`

    P is at least 1 and past slot 0 is a null slot: zeros that the bias hides from everyone. (The fused attention
    operator of the Qwen graph ignores `position_ids` when there is no past at all.) "float" is `kv_dtype`
    for the past and `bias_dtype` for the bias.
    """

    architecture: str
    num_layers: int = Field(ge=1)
    """Of keys and values. With `num_encoder_layers` one of them, at that index, is the encoder's output by head."""
    num_kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    max_positions: int = Field(ge=16)
    num_encoder_layers: int = Field(default=0, ge=0)
    """Lower layers in which query and document do not see each other, under `late` attention; else 0."""
    kv_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    bias_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    masked_bias: float = -10000.0


class ShapeProfile(_Frozen):
    """Sizes of one bucket of rows that a TensorRT engine is built for: least, usual, most."""

    num_tokens: tuple[int, int, int]
    """S."""
    num_past: tuple[int, int, int]
    """P, the null slot included."""
    num_read: tuple[int, int, int]
    """N, and M, the rows of the vocabulary head."""


class Provenance(_Frozen):
    """Where the weights came from; no paths of the machine that made them."""

    created: str
    """UTC, ISO 8601."""
    checkpoint: str
    """Hub id or name of the checkpoint folder."""
    checkpoint_sha256: str
    commit: str | None = None
    command: str
    versions: dict[str, str]
    training: dict[str, Any] = Field(default_factory=dict)


class Agreement(_Frozen):
    """How one form of the model agrees with another on the same pairs."""

    compared: str
    """For example `torch fp32 -> onnx fp32`."""
    num_pairs: int = Field(ge=1)
    max_difference: float = Field(ge=0.0)
    """Largest absolute difference of a grade's probability."""
    mean_difference: float = Field(ge=0.0)
    grade_flips: float = Field(ge=0.0, le=1.0)
    """Share of pairs whose grade differs."""
    kendall_tau: float = Field(ge=-1.0, le=1.0)
    """Of the scores."""


class ParityReport(_Frozen):
    """What the gate measured before it let the artifact out."""

    pairs: str
    """Which pairs were compared."""
    thresholds: dict[str, dict[str, float]]
    agreements: tuple[Agreement, ...] = Field(min_length=1)


class GoldenPair(_Frozen):
    """A pair with the distribution this very artifact gave it when it was made; the start-up self-test."""

    query: str
    document: str
    instruction: str | None = None
    distribution: tuple[float, ...]


class Manifest(_Frozen):
    """Everything about an artifact but its bytes."""

    format_version: int
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    precision: Precision
    target: Target = "cpu"
    spec: ScoringSpec
    label_token_ids: tuple[int, ...]
    graph: GraphInfo
    profiles: tuple[ShapeProfile, ...] = ()
    """Buckets of row lengths, shortest first; of a `tensorrt` artifact only."""
    files: dict[str, FileEntry]
    provenance: Provenance
    parity: ParityReport
    golden_pairs: tuple[GoldenPair, ...] = Field(min_length=1)
    golden_tolerance: float = Field(default=2e-2, gt=0.0)
    """Largest difference of a probability the self-test accepts: another machine may round differently."""

    @model_validator(mode="after")
    def _check_scale(self) -> "Manifest":
        num_grades = self.spec.scale.num_grades
        if len(self.label_token_ids) != num_grades or len(set(self.label_token_ids)) != num_grades:
            raise ValueError(f"label_token_ids must be {num_grades} different ids, got {self.label_token_ids}")
        if max(self.label_token_ids) >= self.graph.vocab_size or min(self.label_token_ids) < 0:
            raise ValueError(
                f"label_token_ids {self.label_token_ids} are outside a vocabulary of {self.graph.vocab_size}"
            )
        if self.spec.limits.max_tokens > self.graph.max_positions:
            raise ValueError(
                f"limits.max_tokens {self.spec.limits.max_tokens} is beyond {self.graph.max_positions} positions"
            )
        for pair in self.golden_pairs:
            if len(pair.distribution) != num_grades:
                raise ValueError(
                    f"golden pair {pair.query!r} has {len(pair.distribution)} probabilities, not {num_grades}"
                )
        return self


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact on disk."""

    folder: Path
    manifest: Manifest
    hash: str
    """sha256 of the manifest, and so of everything."""
    tokenizer: JsonTokenizer

    @property
    def graph_path(self) -> Path:
        """Where the graph lies."""
        return self.folder / GRAPH_FILE

    @property
    def answer_graph_path(self) -> Path | None:
        """Where the graph of answers lies, if there is one."""
        return self.folder / ANSWER_GRAPH_FILE if ANSWER_GRAPH_FILE in self.manifest.files else None

    @property
    def model_id(self) -> str:
        """Name and the first 12 digits of the hash: what an answer is signed with."""
        return f"{self.manifest.name}@{self.hash[:12]}"


def hash_file(path: Path) -> FileEntry:
    """Size and sha256 of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return FileEntry(sha256=digest.hexdigest(), num_bytes=path.stat().st_size)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a folder that holds the other files already."""
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_artifact(folder: Path) -> Artifact:
    """Read and verify an artifact.

    Raises:
        ArtifactError: a missing, extra or altered file, an unknown format version or field, a label that is not
            the token the manifest says.
    """
    raw = _read(folder / MANIFEST_FILE)
    manifest = parse_manifest(raw, folder / MANIFEST_FILE)
    _verify_files(folder, manifest)
    tokenizer = JsonTokenizer.from_file(folder / TOKENIZER_FILE)
    resolved = manifest.spec.scale.resolve_label_token_ids(tokenizer)
    if resolved != manifest.label_token_ids:
        raise ArtifactError(
            f"{folder}: the tokenizer spells the grades {resolved}, the manifest says {manifest.label_token_ids}"
        )
    return Artifact(folder, manifest, hashlib.sha256(raw).hexdigest(), tokenizer)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, nothing verified; ArtifactError if there is none or it cannot be read."""
    path = folder / MANIFEST_FILE
    return parse_manifest(_read(path), path)


def parse_manifest(raw: bytes, path: Path) -> Manifest:
    """A manifest from JSON; ArtifactError says which field is at fault, and tells a newer format apart."""
    try:
        version = json.loads(raw).get("format_version")
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a JSON object: {error}") from error
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: format_version {version!r} is not known here, only {FORMAT_VERSION}; export again"
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise ArtifactError(f"{path}: {describe(error)}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; is this an artifact folder?") from error


def _verify_files(folder: Path, manifest: Manifest) -> None:
    for required in (GRAPH_FILE, TOKENIZER_FILE):
        if required not in manifest.files:
            raise ArtifactError(f"{folder}: manifest.files has no {required}")
    # A graph may keep its weights in any file beside it, so one that nobody vouches for must not be there.
    unlisted = sorted({path.name for path in folder.iterdir()} - {*manifest.files, MANIFEST_FILE, CARD_FILE})
    if unlisted:
        raise ArtifactError(f"{folder}: {', '.join(unlisted[:5])}: not in manifest.files, so nobody vouches for it")
    for name, entry in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            raise ArtifactError(f"{folder}: manifest.files names {name!r}, which is not a plain file name")
        if not path.is_file():
            raise ArtifactError(f"{path}: missing; the artifact is incomplete")
        found = hash_file(path)
        if found != entry:
            raise ArtifactError(
                f"{path}: damaged or altered: {found.num_bytes} bytes, sha256 {found.sha256[:12]}..., "
                f"the manifest says {entry.num_bytes} bytes, {entry.sha256[:12]}..."
            )
