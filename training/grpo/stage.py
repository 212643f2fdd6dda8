"""What both answer stages share: the base checkpoint checked against its spec, rows drawn, runs that go on.

RUN/config.json     the configuration, as resolved: a run folder holds one configuration
RUN/states/         TRL's checkpoints (optimiser, random state, step): the same command goes on from the last
RUN/log.jsonl       one JSON object per log
RUN/checkpoint/     weights, tokenizer, scoring spec, training.json: what the next stage and the export take
"""

import json
import random
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from modeling.loading import load_tokenizer, resolve_model_path
from relevance.provenance import current_commit, versions
from relevance.spec import SPEC_FILE, ScoringSpec
from training.checkpoint import RunLog
from training.config import ConfigError, StrictConfig
from training.grpo.answers import AnswerCodec, AnswerPair, Order, read_answers
from training.grpo.config import AnswerConfig

_MAX_REPEATS = 16


class BaseCheckpoint:
    """A causal language model's folder or id with the spec it answers under."""

    def __init__(self, base_model: str, spec: str | None) -> None:
        """Check what can be checked before the weights are read.

        Raises:
            ConfigError: no spec, a spec other than the checkpoint's, a tokenizer larger than the model's vocabulary,
                or no token to end or pad an answer with.
        """
        self.path = resolve_model_path(base_model)
        self.spec = _resolve_spec(self.path, spec)
        if self.spec.attention != "causal":
            raise ConfigError(f"{base_model}: attention {self.spec.attention!r}; TRL trains causal language models")
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path)
        self.json_tokenizer = load_tokenizer(self.path)
        size = int(AutoConfig.from_pretrained(self.path).get_text_config().vocab_size)
        if self.json_tokenizer.vocab_size > size:
            raise ConfigError(
                f"{base_model}: its tokenizer has {self.json_tokenizer.vocab_size} tokens, its model {size}: "
                "they do not belong together"
            )
        if self.tokenizer.eos_token_id is None or self.tokenizer.pad_token_id is None:
            raise ConfigError(f"{base_model}: its tokenizer names no eos_token or no pad_token")

    def codec(self, order: Order) -> AnswerCodec:
        """The encoder of prompts and answers; LabelTokenError where a grade is not one token."""
        return AnswerCodec(self.spec, self.json_tokenizer, int(self.tokenizer.eos_token_id), order)


def _resolve_spec(path: str, name: str | None) -> ScoringSpec:
    own = Path(path) / SPEC_FILE
    if name is None:
        if not own.is_file():
            raise ConfigError(f"spec: {path} carries no {SPEC_FILE}; name a scoring spec")
        return ScoringSpec.from_file(own)
    spec = ScoringSpec.from_file(Path(name)) if name.endswith(".json") else ScoringSpec.preset(name)
    if own.is_file():
        trained = ScoringSpec.from_file(own)
        if (trained.template, trained.scale) != (spec.template, spec.scale):
            raise ConfigError(
                f"spec: {path} was trained with template {trained.template.name!r} and grades "
                f"{list(trained.scale.labels)}, not {spec.template.name!r} and {list(spec.scale.labels)}"
            )
    return spec


def draw_pairs(config: AnswerConfig, data_dir: Path, num_grades: int) -> list[AnswerPair]:
    """The stage's pairs: `max_rows` of all files by the seed, rare rules repeated by `oversample`."""
    explained = config.order != "grade_only"
    pairs = [p for name in config.data for p in read_answers(data_dir / name, num_grades, explained=explained)]
    rng = random.Random(f"{config.seed}/rows")
    if config.max_rows is not None and config.max_rows < len(pairs):
        pairs = rng.sample(pairs, config.max_rows)
    return oversample(pairs, config.oversample, rng) if config.oversample > 0.0 else pairs


def oversample(pairs: Sequence[AnswerPair], power: float, rng: random.Random) -> list[AnswerPair]:
    """Each pair (largest share / its rule's share) ** power times, at most 16, fractions by chance; shuffled."""
    counts = Counter(pair.rule for pair in pairs)
    largest = max(counts.values())
    drawn: list[AnswerPair] = []
    for pair in pairs:
        times = min(_MAX_REPEATS, (largest / counts[pair.rule]) ** power)
        whole = int(times)
        drawn += [pair] * (whole + (rng.random() < times - whole))
    rng.shuffle(drawn)
    return drawn


class JsonLinesLog(TrainerCallback):  # type: ignore[misc]
    """Every log of a trainer as a line of `RUN/log.jsonl`, written by the main process."""

    def __init__(self, run_dir: Path) -> None:
        self._log = RunLog(run_dir)

    def on_log(  # the callback protocol's signature
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Append what is being logged."""
        if state.is_world_process_zero and logs is not None:
            self._log.write(event="step", step=state.global_step, **logs)


def claim_run(run_dir: Path, config: StrictConfig) -> None:
    """Make the run folder this configuration's; ConfigError if it is another's."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path, content = run_dir / "config.json", config.model_dump_json(indent=1) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != content:
        raise ConfigError(f"{run_dir} holds a run of another configuration; use a new folder or delete it")
    # Whole at once: with several processes the next one reads it while this one writes.
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    beside.write_text(content, encoding="utf-8")
    beside.replace(path)


def train_and_save(trainer: Trainer, run_dir: Path, base: BaseCheckpoint, stage: str) -> None:
    """Train from the last state of the run folder, or from the start, and write `RUN/checkpoint`."""
    states = run_dir / "states"
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(states)) if states.is_dir() else None)
    part, folder = run_dir / "checkpoint.part", run_dir / "checkpoint"
    if trainer.is_world_process_zero():
        shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(part))  # gathers what is sharded
    if trainer.is_world_process_zero():
        (part / "tokenizer.json").write_text(base.json_tokenizer.to_json(), encoding="utf-8")
        base.spec.to_file(part / SPEC_FILE)
        training = {
            "stage": stage,
            "step": trainer.state.global_step,
            "commit": current_commit(),
            "versions": versions(("torch", "transformers", "trl")),
            "config": json.loads((run_dir / "config.json").read_text(encoding="utf-8")),
        }
        (part / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    trainer.accelerator.wait_for_everyone()
