"""Which rows each stage trains on: a function of the measured rows, the configuration and its seed.

A pick takes, of each file of its pool, rows between two quantiles of difficulty; replay adds rows of earlier stages
until they are the wanted share. No row is picked twice within a stage.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.curriculum.config import CurriculumConfig, Pick, Stage
from training.curriculum.difficulty import MeasuredRow


class EmptyStageError(ValueError):
    """A stage that finds no rows; the message names it."""


def pick_rows(rows: Sequence[MeasuredRow], pick: Pick, rng: random.Random) -> list[int]:
    """Indices of the rows a pick takes, in order."""
    by_file: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.is_synthetic == (pick.pool == "synthetic"):
            by_file.setdefault(row.file, []).append(index)
    picked: list[int] = []
    for indices in by_file.values():
        ordered = sorted(indices, key=lambda index: (rows[index].difficulty, index))
        span = ordered[round(pick.easiest * len(ordered)) : round(pick.hardest * len(ordered))]
        span = [index for index in span if rows[index].is_long_tail or not pick.long_tail_only]
        picked += rng.sample(span, min(pick.max_rows, len(span)))
    return sorted(picked)


def plan(rows: Sequence[MeasuredRow], config: CurriculumConfig) -> list[list[int]]:
    """Indices of each stage's rows, new ones first, then replayed ones.

    Raises:
        EmptyStageError: a stage's picks find nothing.
    """
    stages: list[list[int]] = []
    seen: list[int] = []
    for stage in config.stages:
        rng = random.Random(f"{config.seed}/stage/{stage.name}")
        new = sorted({index for pick in stage.picks for index in pick_rows(rows, pick, rng)})
        if not new:
            raise EmptyStageError(f"stage {stage.name!r}: its picks find no rows")
        older = sorted(set(seen) - set(new))
        num_replay = round(len(new) * stage.replay / (1.0 - stage.replay))
        stages.append(new + rng.sample(older, min(num_replay, len(older))))
        seen += new
    return stages


def stage_figures(rows: Sequence[MeasuredRow], indices: Sequence[int], stage: Stage) -> dict[str, Any]:
    """What a stage is made of, for the log."""
    chosen = [rows[index] for index in indices]
    difficulty = np.array([row.difficulty for row in chosen])
    grades = Counter(row.pair.grade for row in chosen)
    return {
        "stage": stage.name,
        "num_rows": len(chosen),
        "files": dict(sorted(Counter(row.file for row in chosen).items())),
        "synthetic": float(np.mean([row.is_synthetic for row in chosen])),
        "long_tail": float(np.mean([row.is_long_tail for row in chosen])),
        "wrong": float(np.mean([row.margin < 0.0 for row in chosen])),
        "difficulty": {
            "mean": float(difficulty.mean()),
            "quartiles": [float(q) for q in np.quantile(difficulty, (0.25, 0.5, 0.75))],
        },
        "grades": {str(grade): count / len(chosen) for grade, count in sorted(grades.items())},
    }
