"""Running planned stages one after the other, each on the checkpoint of the one before.

    RUN/difficulty.jsonl     every measured row
    RUN/log.jsonl            one line per finished stage: its rows, its difficulty, its validation figures
    RUN/1-NAME/              the stage's rows and its SFT run; `done.json` says that it is over
    RUN/checkpoint/          that of the last stage

The same command goes on where a run stopped: a finished stage is not run again, an unfinished one resumes.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling.loading import resolve_model_path
from relevance.spec import SPEC_FILE
from training.config import ConfigError, SftConfig, Source
from training.curriculum.config import CurriculumConfig, Stage
from training.curriculum.difficulty import MeasuredRow, measure
from training.curriculum.plan import plan, stage_figures
from training.sft import SftRun

ROWS_FILE = "rows.jsonl"


def claim_folder(config: CurriculumConfig, run_dir: Path) -> None:
    """Make a run folder, or check that it is this configuration's.

    Raises:
        ConfigError: it holds another configuration's run.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path, text = run_dir / "config.json", config.model_dump_json()
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{run_dir} holds a run of another configuration; use a new folder or delete it")
    path.write_text(text, encoding="utf-8")


def run_curriculum(config: CurriculumConfig, data_dir: Path, run_dir: Path) -> list[dict[str, Any]]:
    """Measure, plan, and run every stage that is not over yet; figures of all stages."""
    claim_folder(config, run_dir)
    rows = measure(config, data_dir, run_dir / "difficulty.jsonl")
    return run_stages(config, rows, plan(rows, config), data_dir, run_dir)


def run_stages(
    config: CurriculumConfig,
    rows: Sequence[MeasuredRow],
    stages: Sequence[Sequence[int]],
    data_dir: Path,
    run_dir: Path,
) -> list[dict[str, Any]]:
    """Run the stages whose rows are given as indices; figures of all, in order."""
    figures: list[dict[str, Any]] = []
    base = config.base_model
    for number, (stage, indices) in enumerate(zip(config.stages, stages, strict=True), start=1):
        folder = run_dir / f"{number}-{stage.name}"
        done = folder / "done.json"
        if not done.is_file():
            made_of = stage_figures(rows, indices, stage)
            _run_stage(config, stage, base, [rows[index] for index in indices], (data_dir, folder))
            record = {**made_of, "validation": _last_validation(folder)}
            with (run_dir / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"event": "stage", **record}) + "\n")
            done.write_text(json.dumps(record) + "\n", encoding="utf-8")
            (folder / "resume.pt").unlink(missing_ok=True)
        figures.append(json.loads(done.read_text(encoding="utf-8")))
        base = str(folder / "checkpoint")
    _publish(Path(base), run_dir / "checkpoint")
    return figures


def _run_stage(
    config: CurriculumConfig, stage: Stage, base: str, rows: Sequence[MeasuredRow], folders: tuple[Path, Path]
) -> None:
    data_dir, folder = folders
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"query": row.pair.query, "document": row.pair.document, "distribution": list(row.pair.target)})
        for row in rows
    ]
    (folder / ROWS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    sft = SftConfig(
        base_model=base,
        spec=config.spec or str(Path(resolve_model_path(config.base_model)) / SPEC_FILE),
        joint_from=config.joint_from if base == config.base_model else None,
        sources=(Source(path=ROWS_FILE, max_document_tokens=config.max_document_tokens),),
        validation=tuple(os.path.relpath(data_dir / name, folder) for name in config.validation),
        max_validation_rows=config.max_validation_rows,
        num_passes=stage.num_passes,
        batch_tokens=config.batch_tokens,
        learning_rate=stage.learning_rate,
        encoder_rate=config.encoder_rate,
        warmup_steps=stage.warmup_steps,
        freeze_embeddings=config.freeze_embeddings,
        precision=config.precision,
        seed=config.seed,
        evaluate_every=1_000_000,
    )
    SftRun(sft, folder, folder).train()


def _last_validation(folder: Path) -> dict[str, dict[str, float]]:
    """The last validation figures in a stage's log, by the file's last two parts."""
    found: dict[str, dict[str, float]] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "validation":
            name = "/".join(Path(event["file"]).parts[-2:])
            found[name] = {k: v for k, v in event.items() if k not in ("event", "step", "file")}
    return found


def _publish(checkpoint: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
