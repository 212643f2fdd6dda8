"""Supervised fine-tuning: the first token after the prompt is the grade.

    python -m training.sft configs/training/default.toml --data-dir DIR --run runs/default

The loss is the cross-entropy of that token over the whole vocabulary, against the gold grade or a soft label, and of
the explanation behind it where a row has one (training/losses.py):

    L = - sum_k t_k log softmax_V(z)[label token k]  -  w mean_t log softmax_V(z_t)[token t]

so that a model trained here answers with a grade under plain greedy decoding, too. Stop it whenever you like:
the same command goes on from the last checkpoint, and sees the data in the same order.
"""

import argparse
import itertools
import json
import math
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from modeling.loading import load_model, load_tokenizer, load_with_joint_layers, resolve_model_path
from relevance import metrics
from relevance.calibration import fit_temperature
from relevance.provenance import current_commit, versions
from relevance.scoring import expected_score, grade_distribution, most_likely_grade
from relevance.spec import ScoringSpec
from training.checkpoint import RunLog, load_resume, save_checkpoint, save_resume
from training.config import SftConfig
from training.data import AnswerEncoder, Example, LabelledPair, SourcePool, encode_pairs, read_pairs, token_batches
from training.losses import explanation_cross_entropy, first_token_cross_entropy
from training.scorer import CheckpointScorer


def load_spec(name_or_path: str) -> ScoringSpec:
    """A ready spec by name, or the file at a path."""
    path = Path(name_or_path)
    return ScoringSpec.from_file(path) if path.suffix == ".json" else ScoringSpec.preset(name_or_path)


def build_optimizer(model: PreTrainedModel, config: SftConfig) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed, the encoder learns at `encoder_rate`, frozen parts not at all."""
    if config.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = config.learning_rate * (config.encoder_rate if in_encoder(name, model) else 1.0)
        if rate == 0.0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        betas=(0.9, 0.98),
    )


def in_encoder(name: str, model: PreTrainedModel) -> bool:
    """Whether a parameter belongs to the embeddings or to the layers a sentence encoder came with."""
    if "embeddings" in name or "embed_tokens" in name:
        return True
    layer = re.search(r"layers?\.(\d+)\.", name)
    depth = getattr(model.config, "num_encoder_layers", model.config.num_hidden_layers)
    return layer is not None and int(layer[1]) < depth


def learning_rate_factor(step: int, warmup_steps: int, num_steps: int) -> float:
    """Linear warm-up, then half a cosine down to 2 %."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def evaluate_file(
    scorer: CheckpointScorer, pairs: Sequence[LabelledPair], examples: Sequence[Example], gains: np.ndarray
) -> dict[str, float]:
    """Validation figures of one file, at the temperature that suits it best."""
    logits = scorer.label_logits(examples)
    gold = np.array([pair.grade for pair in pairs])
    distribution = grade_distribution(logits, fit_temperature(logits, gold))
    return metrics.summary(
        distribution,
        most_likely_grade(distribution),
        expected_score(distribution),
        gold,
        [p.query for p in pairs],
        gains,
    )


class SftRun:
    """One run: data, model, optimiser and where it stands."""

    def __init__(self, config: SftConfig, data_dir: Path, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run_dir, self.log = config, run_dir, RunLog(run_dir)
        base = resolve_model_path(config.base_model)
        self.spec = load_spec(config.spec)
        tokenizer = load_tokenizer(base)
        self.tokenizer_json = tokenizer.to_json()
        label_token_ids = self.spec.scale.resolve_label_token_ids(tokenizer)
        encoder = self.spec.encoder(tokenizer)
        num_grades = self.spec.scale.num_grades
        answers = AnswerEncoder(tokenizer, self.spec.scale)
        self.pools = [SourcePool(source, data_dir, encoder, answers) for source in config.sources]
        self.validation: dict[str, tuple[list[LabelledPair], list[Example]]] = {}
        for name in config.validation:
            pairs = read_pairs(data_dir / name, num_grades)[: config.max_validation_rows]
            self.validation[name] = (pairs, encode_pairs(pairs, encoder))
        self.model = self._load(base, label_token_ids)
        self.optimizer = build_optimizer(self.model, config)
        self.scorer = CheckpointScorer(
            self.model, self.spec.attention, label_token_ids, bfloat16=config.precision == "bfloat16"
        )
        self.passes = [self._batches(i) for i in range(config.num_passes)]
        self.num_steps = sum(len(p) for p in self.passes)

    def _load(self, base: str, label_token_ids: Sequence[int]) -> PreTrainedModel:
        if self.config.joint_from is None:
            return load_model(base, self.config.dropout)
        return load_with_joint_layers(base, self.config.joint_from, label_token_ids, self.config.dropout)

    def _batches(self, pass_index: int) -> list[list[Example]]:
        examples = [e for pool in self.pools for e in pool.draw(pass_index, self.config.seed)]
        rng = random.Random(f"{self.config.seed}/batches/{pass_index}")
        return list(token_batches(examples, self.config.batch_tokens, rng))

    def train(self, max_steps: int | None = None) -> int:
        """Train from wherever the run folder stands to the end, or for `max_steps` more; the step reached."""
        config_json = self.config.model_dump_json()
        first = load_resume(self.run_dir, self.model, self.optimizer, config_json)
        self.log.write(event="start", step=first, num_steps=self.num_steps, config=json.loads(config_json))
        end = self.num_steps if max_steps is None else min(self.num_steps, first + max_steps)
        progress = tqdm(total=self.num_steps, initial=first, unit="step", mininterval=5)
        for step, batch in self._between(first, end):
            started = time.perf_counter()
            figures = self._step(step, batch)
            progress.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            progress.update()
            tokens, seconds = sum(e.num_tokens for e in batch), time.perf_counter() - started
            self.log.write(event="step", step=step, **figures, tokens=tokens, seconds=seconds)
            done = step + 1
            if done % self.config.evaluate_every == 0 or done == end:
                self._evaluate(done)
            if done % self.config.checkpoint_every == 0:
                self._save(done, config_json)
        progress.close()
        self._save(end, config_json)
        return end

    def _save(self, step: int, config_json: str) -> None:
        save_resume(self.run_dir, self.model, self.optimizer, step, config_json)
        training = {
            "stage": "sft",
            "step": step,
            "num_steps": self.num_steps,
            "commit": current_commit(),
            "versions": versions(("torch", "transformers")),
            "config": json.loads(config_json),
        }
        save_checkpoint(self.run_dir / "checkpoint", self.model, self.tokenizer_json, self.spec, training)

    def _between(self, first: int, end: int) -> Iterator[tuple[int, list[Example]]]:
        every = (batch for batches in self.passes for batch in batches)
        yield from itertools.islice(enumerate(every), first, end)

    def _step(self, step: int, batch: Sequence[Example]) -> dict[str, float]:
        torch.manual_seed(self.config.seed * 1_000_003 + step)  # dropout, whatever step a run resumed at
        self.model.train()
        logits = self.scorer.forward(batch)
        loss = first_token_cross_entropy(logits.first, logits.target, self.scorer.label_token_ids)
        explanation_loss = explanation_cross_entropy(logits.explanation, logits.tokens)
        (loss + self.config.explanation_weight * explanation_loss).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        factor = learning_rate_factor(step, self.config.warmup_steps, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        hit = logits.first[:, self.scorer.label_token_ids].argmax(1) == logits.target.argmax(1)
        figures = {"loss": float(loss.detach()), "accuracy": float(hit.float().mean())}
        return figures | ({"explanation_loss": float(explanation_loss.detach())} if len(logits.tokens) else {})

    def _evaluate(self, step: int) -> None:
        for name, (pairs, examples) in self.validation.items():
            figures = evaluate_file(self.scorer, pairs, examples, self.spec.scale.gains)
            self.log.write(event="validation", step=step, file=name, **figures)
            tqdm.write(f"step {step} {name} " + " ".join(f"{k}={v:.4g}" for k, v in figures.items()))


def main(argv: Sequence[str] | None = None) -> None:
    """Run one configuration to its end, or on from where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--max-steps", type=int, help="stop after so many more steps; the same command goes on")
    parser.add_argument("--joint-from", type=int, help="instead of the configuration's: another size, trained alike")
    args = parser.parse_args(argv)
    config = SftConfig.from_toml(args.config)
    if args.joint_from is not None:
        config = config.model_copy(update={"joint_from": args.joint_from})
    run = SftRun(config, args.data_dir, args.run)
    reached = run.train(args.max_steps)
    print(json.dumps({"step": reached, "num_steps": run.num_steps}))


if __name__ == "__main__":
    main()
