"""From checkpoint to artifact folder, all or nothing.

    load and check -> float32 graph -> gate against torch -> [int8 | int4 | fp16 | bf16 graph -> gate against float32]
        -> golden pairs -> manifest -> verify as a server would -> rename to OUT

All of it runs on the CPU, whatever the target: float32 and published graph are those of the target, with its operators.

Everything happens in a temporary folder beside OUT. An error, the gate's refusal or a kill leaves OUT as it was.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from pydantic import ValidationError
from tqdm import tqdm

from engine.local import LocalScorer, self_test
from engine.ort import OrtEngine
from model_export.backbone import build_answers, build_graph, graph_info
from model_export.checkpoint import Checkpoint, load_checkpoint
from model_export.errors import ExportError
from model_export.pairs import builtin_pairs, golden_pairs, renderable, sample_pairs
from model_export.parity import Thresholds, check, compare, decided_flips, torch_distributions
from model_export.profiles import make_profiles
from model_export.weights import save_graphs
from model_export.widen import widen
from relevance.artifact import (
    ANSWER_GRAPH_FILE,
    FORMAT_VERSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    Agreement,
    Artifact,
    FileEntry,
    GoldenPair,
    Manifest,
    ParityReport,
    Precision,
    Provenance,
    Target,
    hash_file,
    load_artifact,
    write_manifest,
)
from relevance.pair import Pair
from relevance.provenance import current_commit, now_utc, versions
from relevance.scoring import FloatArray
from relevance.spec import describe

PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "torch", "transformers")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the command line says."""

    checkpoint: str
    out: Path
    precision: Precision
    command: str
    thresholds: dict[str, Thresholds]
    target: Target = "cpu"
    name: str | None = None
    spec: str | None = None
    pair_files: tuple[Path, ...] = ()
    num_pairs: int = 200
    seed: int = 0


# The one file of an artifact folder that the manifest does not list, and a new export keeps.
MODEL_CARD = "README.md"


def export(options: ExportOptions) -> Manifest:
    """Publish an artifact at `options.out`; the manifest it got.

    Raises:
        ExportError: unfit checkpoint or options.
        GateError: the graph disagrees with the checkpoint.
    """
    _check_out(options.out)
    checkpoint = load_checkpoint(options.checkpoint, options.spec)
    encoder = checkpoint.spec.encoder(checkpoint.tokenizer)
    pairs = renderable(sample_pairs(options.pair_files, options.num_pairs, options.seed), encoder)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{options.out.name}.", dir=options.out.parent) as work:
        stage = _Stage(checkpoint, options, Path(work))
        final, parity = stage.build_and_judge(pairs)
        golden = stage.score_golden(final, golden_pairs(renderable(builtin_pairs(), encoder)))
        manifest = stage.describe(final, parity, golden)
        write_manifest(final, manifest)
        stage.verify(final)
        _replace_folder(final, options.out)
    return manifest


def _check_out(out: Path) -> None:
    if out.exists() and not (out / MANIFEST_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out.name}: exists and is no artifact; will not be replaced")


def _replace_folder(folder: Path, out: Path) -> None:
    folder.chmod(0o755)  # temporary folders are private
    if out.exists():
        if (out / MODEL_CARD).is_file():  # written by people, about the model rather than its bytes
            shutil.copy2(out / MODEL_CARD, folder)
        shutil.rmtree(out)
    folder.rename(out)


class _Stage:
    """One export at work in its temporary folder."""

    def __init__(self, checkpoint: Checkpoint, options: ExportOptions, work: Path) -> None:
        self._checkpoint = checkpoint
        self._options = options
        self._work = work
        try:
            self._draft(options.precision)
        except ValidationError as error:
            raise ExportError(f"{checkpoint.name}: {describe(error)}; see --name and --spec") from error

    def build_and_judge(self, pairs: Sequence[Pair]) -> tuple[Path, ParityReport]:
        """Graph files of the published precision, every step to it past its gate."""
        precision = self._options.precision
        _LOG.info("%s: float32 graph", self._checkpoint.architecture)
        folder = self._write("fp32")
        progress = tqdm(torch_distributions(self._checkpoint, pairs), "torch", len(pairs), disable=None, leave=False)
        reference, exact = np.array(list(progress)), self._score(folder, "fp32", pairs)
        agreements = [self._judge("torch fp32 -> onnx fp32", reference, exact, "fp32")]
        if precision != "fp32":
            _LOG.info("%s graph", precision)
            folder = self._write(precision)
            found = self._score(folder, precision, pairs)
            agreements.append(self._judge(f"onnx fp32 -> onnx {precision}", exact, found, precision))
        used = dict.fromkeys(("fp32", precision))
        return folder, ParityReport(
            pairs=self._describe_pairs(len(pairs)),
            thresholds={name: asdict(self._options.thresholds[name]) for name in used},
            agreements=tuple(agreements),
        )

    def _write(self, precision: Precision) -> Path:
        """A folder with graph and tokenizer, no manifest yet."""
        folder = self._work / precision
        folder.mkdir()
        graphs = {GRAPH_FILE: build_graph(self._checkpoint, precision, self._options.target)}
        answers = build_answers(self._checkpoint, precision, self._options.target)
        if answers is not None:
            graphs[ANSWER_GRAPH_FILE] = answers
        save_graphs(graphs, folder)
        (folder / TOKENIZER_FILE).write_text(self._checkpoint.tokenizer.to_json(), encoding="utf-8")
        return folder

    def _runnable(self, folder: Path, precision: Precision) -> Path:
        """Where a graph lies that computes the same on a CPU."""
        if precision != "bf16":
            return folder
        twin = folder.with_name(f"{folder.name}-widened")
        if not twin.exists():
            twin.mkdir()
            save_graphs({GRAPH_FILE: widen(ir.load(folder / GRAPH_FILE))}, twin)
        return twin

    def _judge(self, compared: str, reference: FloatArray, other: FloatArray, precision: Precision) -> Agreement:
        thresholds = self._options.thresholds[precision]
        agreement = compare(compared, reference, other)
        flips = decided_flips(reference, other, thresholds.near_tie)
        _LOG.info(
            f"{compared}: {agreement.num_pairs} pairs, max {agreement.max_difference:.2e}, "
            f"mean {agreement.mean_difference:.2e}, flips {agreement.grade_flips:.3f} (decided {flips:.3f}), "
            f"tau {agreement.kendall_tau:.4f}"
        )
        check(agreement, flips, thresholds)
        return agreement

    def _score(self, folder: Path, precision: Precision, pairs: Sequence[Pair]) -> FloatArray:
        """Distributions of a graph that has no manifest yet."""
        artifact = Artifact(self._runnable(folder, precision), self._draft(precision), "", self._checkpoint.tokenizer)
        scorer = LocalScorer(artifact, OrtEngine(artifact))
        distributions = scorer.distributions(pairs)
        scorer.close()
        return distributions

    def _draft(self, precision: Precision) -> Manifest:
        """What an engine reads of a manifest; the measured parts are filled in by `describe`."""
        checkpoint = self._checkpoint
        nothing = Agreement(
            compared="nothing", num_pairs=1, max_difference=0, mean_difference=0, grade_flips=0, kendall_tau=0
        )
        uniform = (1.0 / checkpoint.spec.scale.num_grades,) * checkpoint.spec.scale.num_grades
        return Manifest(
            format_version=FORMAT_VERSION,
            name=self._options.name or checkpoint.name.rpartition("/")[2],
            precision=precision,
            target=self._options.target,
            spec=checkpoint.spec,
            label_token_ids=checkpoint.label_token_ids,
            graph=graph_info(checkpoint, precision),
            profiles=make_profiles(checkpoint.spec.limits) if self._options.target == "tensorrt" else (),
            files={},
            provenance=Provenance(
                created=now_utc(),
                checkpoint=checkpoint.name,
                checkpoint_sha256=checkpoint.sha256,
                commit=current_commit(),
                command=self._options.command,
                versions=versions(PACKAGES),
                training=checkpoint.training,
            ),
            parity=ParityReport(pairs="none yet", thresholds={}, agreements=(nothing,)),
            golden_pairs=(GoldenPair(query="", document="", distribution=uniform),),
        )

    def score_golden(self, folder: Path, pairs: Sequence[Pair]) -> tuple[GoldenPair, ...]:
        """The self-test's pairs with what the final graph gives them."""
        distributions = self._score(folder, self._options.precision, pairs)
        return tuple(
            GoldenPair(
                query=pair.query,
                document=pair.document,
                instruction=pair.instruction,
                distribution=tuple(np.round(distribution, 6).tolist()),
            )
            for pair, distribution in zip(pairs, distributions, strict=True)
        )

    def describe(self, folder: Path, parity: ParityReport, golden: tuple[GoldenPair, ...]) -> Manifest:
        """The manifest of the files in `folder`."""
        files: dict[str, FileEntry] = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
        draft = self._draft(self._options.precision)
        return draft.model_copy(update={"files": files, "parity": parity, "golden_pairs": golden})

    def verify(self, folder: Path) -> None:
        """Load the artifact and score its golden pairs as a server would."""
        found = load_artifact(folder)
        runnable = self._runnable(folder, self._options.precision)
        artifact = Artifact(runnable, found.manifest, found.hash, found.tokenizer)
        engine = OrtEngine(artifact)
        self_test(artifact, engine)
        engine.close()

    def _describe_pairs(self, num_pairs: int) -> str:
        files = ", ".join("/".join(path.parts[-2:]) for path in self._options.pair_files)
        return f"{num_pairs} pairs: built-in{f' and, seed {self._options.seed}, of {files}' if files else ''}"
