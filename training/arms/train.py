"""One arm with one seed: trained, evaluated, and its figures written when all is done.

RUN/reader, RUN/student      the base, and its first layers
RUN/ARM-SEED/checkpoint      what was trained
RUN/ARM-SEED/figures.json    figures, recall per rule, learning curve; an arm that has them is not trained again
"""

import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer, TrainerCallback

from relevance.scoring import grade_distribution
from training.arms.config import READER, Arm, ArmsConfig
from training.arms.distil import distil, lessons_of, unlabelled_pairs
from training.arms.evaluate import entropy, evaluate, next_label_logits, rare_and_common, rule_recall
from training.arms.reading import trl_fields, write_reader, write_student
from training.grpo import policy, supervised
from training.grpo.answers import AnswerCodec, AnswerPair, read_answers
from training.grpo.config import PolicyConfig, Rewards, SupervisedConfig
from training.grpo.stage import BaseCheckpoint, claim_run, train_and_save

TRAIN = "train.jsonl.gz"
SPLITS = ("val", "test", "rules")


class Curve(TrainerCallback):  # type: ignore[misc]
    """Recall and entropy on the rules' pairs while an arm trains."""

    def __init__(self, codec: AnswerCodec, pairs: Sequence[AnswerPair], every: int) -> None:
        self._codec, self._pairs, self._every = codec, pairs, every
        self._prompts = [codec.prompt(pair) for pair in pairs]
        self.points: list[dict[str, float]] = []

    def measure(self, model: PreTrainedModel, step: int) -> None:
        """One point."""
        was_training = model.training
        logits = next_label_logits(model, self._prompts, self._codec)
        recall = rare_and_common(rule_recall(logits, self._pairs))
        self.points.append({"step": step, "grade_entropy": entropy(grade_distribution(logits)), **recall})
        model.train(was_training)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """The point before the first step."""
        self.measure(kwargs["model"], 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """A point every so many steps."""
        if state.global_step % self._every == 0:
            self.measure(kwargs["model"], state.global_step)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where all arms of one configuration are trained."""

    config: ArmsConfig
    data_dir: Path
    run_dir: Path

    def prepare(self) -> None:
        """The base and the students' start; kept if they are there. ConfigError in another configuration's folder."""
        claim_run(self.run_dir, self.config)
        write_reader(self.config, self.run_dir / READER)
        write_student(self.run_dir / READER, self.run_dir / "student", self.config.student_layers)

    def folder(self, arm: str, seed: int) -> Path:
        """Where an arm's run lies."""
        return self.run_dir / f"{arm}-{seed}"

    def start_of(self, arm: Arm, seed: int) -> Path:
        """The checkpoint an arm starts from."""
        if arm.start == READER:
            return self.run_dir / (READER if arm.kind != "distilled" else "student")
        return self.folder(arm.start, seed) / "checkpoint"

    def run(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Train and evaluate, or read what was found before."""
        folder = self.folder(arm.name, seed)
        done = folder / "figures.json"
        if done.is_file():
            found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
            return found
        shutil.rmtree(folder, ignore_errors=True)  # an arm is short: half of one is begun anew
        base = BaseCheckpoint(str(self.start_of(arm, seed)), None)
        codec = base.codec(arm.order)
        splits = {
            name: read_answers(self.data_dir / f"{name}.jsonl.gz", codec.scale.num_grades, explained=True)
            for name in SPLITS
        }
        started = time.process_time()
        points = self._train(arm, seed, base, codec, splits["rules"])
        seconds = time.process_time() - started
        model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
        figures = {
            **evaluate(model, codec, splits, self.config.generated_pairs),
            "curve": points,
            "train_cpu_s": seconds,
        }
        done.write_text(json.dumps(figures) + "\n", encoding="utf-8")
        return figures

    def _train(
        self, arm: Arm, seed: int, base: BaseCheckpoint, codec: AnswerCodec, watched: Sequence[AnswerPair]
    ) -> list[dict[str, float]]:
        folder = self.folder(arm.name, seed)
        if arm.kind == "distilled":
            self._distil(arm, seed, base, codec)
            return []
        trainer = self._supervised(arm, seed, base) if arm.kind == "supervised" else self._policy(arm, seed, base)
        if codec.order == "reason_first":  # a grade behind a reason needs decoding: too dear to watch
            train_and_save(trainer, folder, base, arm.name)
            return []
        curve = Curve(codec, watched, max(1, trainer.args.max_steps // self.config.curve_points))
        trainer.add_callback(curve)
        train_and_save(trainer, folder, base, arm.name)
        return curve.points

    def _supervised(self, arm: Arm, seed: int, base: BaseCheckpoint) -> Trainer:
        stage = self.config.supervised
        own = {"steps": arm.steps, "learning_rate": arm.learning_rate}
        stage = stage.model_copy(update={name: value for name, value in own.items() if value is not None})
        trl = trl_fields(stage, self.folder(arm.name, seed), seed)
        for name in ("output_dir", "seed", "report_to"):
            del trl[name]
        config = SupervisedConfig(
            base_model=base.path,
            data=(TRAIN,),
            order=arm.order,
            max_rows=self.config.rows,
            seed=seed,
            grade_weight=1.0 if arm.order == "grade_only" else 0.5,
            trl=trl,
        )
        return supervised.build(config, self.data_dir, self.folder(arm.name, seed))[0]

    def _policy(self, arm: Arm, seed: int, base: BaseCheckpoint) -> Trainer:
        shared = self.config
        trl = {**shared.policy, "max_steps": arm.steps or shared.policy["max_steps"]}
        if arm.order == "grade_only":
            trl["max_completion_length"] = 1
        config = PolicyConfig(
            base_model=base.path,
            data=(TRAIN,),
            order=arm.order,
            max_rows=shared.rows,
            seed=seed,
            grade_weight=1.0 if arm.order == "grade_only" else 0.5,
            trl=trl,
            credit=arm.credit,
            clamp=shared.clamp,
            exact_grade=arm.exact_grade,
            anchor=arm.anchor,
            rewards=Rewards(grade="exact", free_tokens=shared.free_tokens),
            difficulty=shared.difficulty,
        )
        return policy.build(config, self.data_dir, self.folder(arm.name, seed))[0]

    def _distil(self, arm: Arm, seed: int, base: BaseCheckpoint, codec: AnswerCodec) -> None:
        rng = random.Random(f"{seed}/distil")
        pairs = read_answers(self.data_dir / TRAIN, codec.scale.num_grades, explained=False)
        unlabelled = unlabelled_pairs(rng.sample(pairs, min(self.config.rows, len(pairs))), rng)
        teacher = AutoModelForCausalLM.from_pretrained(self.folder(arm.teacher or "", seed) / "checkpoint")
        lessons = lessons_of(teacher, unlabelled, codec, text=arm.explanations)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base.path)
        distil(model, lessons, codec, arm, self.config.distilled, seed)
        folder = self.folder(arm.name, seed) / "checkpoint"
        base.tokenizer.save_pretrained(folder)
        base.spec.to_file(folder / "scoring_spec.json")
        model.save_pretrained(folder)
