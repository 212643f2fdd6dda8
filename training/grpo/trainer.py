"""Stepwise-GRPO on TRL: its trainer, with advantages per segment and a supervised anchor.

    L = L_GRPO(A_i,k(t)) + lambda(step) L_SFT(gold answers of the same prompts) - w J(grade)

TRL takes advantages per token ("to support subclasses that provide advantages with shape (B, T)", `_compute_loss`),
logs one reward per function and normalises within groups across processes; clipping, KL, vLLM rollouts and every
distributed mode stay TRL's. What is overridden, each guarded by a test that fails when TRL changes:

    _tokenize_prompts                  prompts are token ids already: the scoring spec encoded them
    _calculate_rewards                 TRL's, kept for the advantages
    _generate_and_score_completions    TRL's, then advantages per segment, and gold answers ride along
    _compute_loss                      TRL's, then the anchor and the exact expectation from one more forward pass
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from training.grpo.advantages import agreement, learnable_groups, spread, stepwise_advantages
from training.grpo.answers import GRADE, AnswerCodec, AnswerPair
from training.grpo.config import PolicyConfig
from training.grpo.losses import anchor_weight, answer_loss, expected_reward, label_entropy
from training.rewards import SEGMENTS, RewardRules, grade_reward, segment_rewards

Batch = dict[str, Any]


class SegmentRewards:
    """The rewards of a batch of rollouts, computed once however many reward functions TRL asks."""

    def __init__(self, pairs: Sequence[AnswerPair], codec: AnswerCodec, rules: RewardRules) -> None:
        self._pairs, self._codec, self._rules = pairs, codec, rules
        self._scored: list[dict[str, float | None]] = []
        self._of: object = None

    def score(self, completion_ids: list[list[int]], rows: Sequence[int]) -> list[dict[str, float | None]]:
        """Rewards per rollout and segment."""
        if self._of is not completion_ids:
            self._scored = [
                segment_rewards(self._codec.read(ids), self._pairs[row].judged, self._codec.scale, self._rules)
                for ids, row in zip(completion_ids, rows, strict=True)
            ]
            self._of = completion_ids
        return self._scored

    def function(self, segment: str) -> Callable[..., list[float | None]]:
        """TRL's reward function for one segment."""

        def reward(*, completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float | None]:
            return [rewards[segment] for rewards in self.score(completion_ids, row)]

        reward.__name__ = segment
        return reward


@dataclass(frozen=True, slots=True)
class PolicyTask:
    """What the policy learns from: pairs, how their answers are encoded, and the run's choices."""

    pairs: Sequence[AnswerPair]
    codec: AnswerCodec
    config: PolicyConfig

    def dataset(self) -> Dataset:
        """One row per pair: prompt ids and the pair's index."""
        prompts = [self.codec.prompt(pair) for pair in self.pairs]
        return Dataset.from_dict({"prompt": prompts, "row": list(range(len(prompts)))})


class StepwiseGrpoTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer with credit per segment, a supervised anchor and an exact grade."""

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: GRPOConfig,
        task: PolicyTask,
        tokenizer: PreTrainedTokenizerBase,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """`args.reward_weights` is set here, in the order of `SEGMENTS`."""
        config = task.config
        rules = RewardRules(config.rewards.grade, config.rewards.free_tokens, args.max_completion_length)
        rewards = SegmentRewards(task.pairs, task.codec, rules)
        # An answer that is the grade alone has no other segment: TRL would warn of rewards that are never there.
        self._segment_names = SEGMENTS if config.order == "grade_first" else SEGMENTS[:1]
        args.reward_weights = [config.rewards.weights.get(name, 1.0) for name in self._segment_names]
        self._task, self._rewards_now = task, torch.empty(0)
        self._grade_rewards = torch.tensor(
            [
                [
                    grade_reward(config.rewards.grade, k, gold, task.codec.scale.num_grades)
                    for k in range(len(task.codec.label_token_ids))
                ]
                for gold in range(task.codec.scale.num_grades)
            ]
        )
        super().__init__(
            model=model,
            reward_funcs=[rewards.function(name) for name in self._segment_names],
            args=args,
            train_dataset=task.dataset(),
            processing_class=tokenizer,
            callbacks=callbacks,
        )

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        self._rewards_now = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self._rewards_now

    def _generate_and_score_completions(self, inputs: list[Batch]) -> Batch:
        output: Batch = super()._generate_and_score_completions(inputs)
        rows = [int(row["row"]) for row in inputs]
        first = self.accelerator.process_index * len(rows)
        mine = slice(first, first + len(rows))
        num_generations = self.num_generations if self.model.training else self.num_generations_eval
        config, device = self._task.config, self.accelerator.device
        if config.credit == "stepwise":
            output["advantages"] = self._stepwise(output, num_generations, mine)
        if config.difficulty is not None:
            keep = learnable_groups(self._rewards_now[:, GRADE] >= 1.0, num_generations, *config.difficulty)
            self._note("kept_groups", float(keep.float().mean()))
            kept = keep[mine].to(output["advantages"].dtype)
            output["advantages"] = output["advantages"] * (kept[:, None] if output["advantages"].dim() == 2 else kept)
        said = self.accelerator.gather(output["completion_ids"][:, 0].contiguous())
        self._note("group_agreement", agreement(said, num_generations))
        pairs = [self._task.pairs[row] for row in rows]
        gold = [torch.tensor(self._task.codec.gold(pair)) for pair in pairs]
        output["row"] = torch.tensor(rows, device=device)
        output["gold_ids"] = pad_sequence(gold, batch_first=True, padding_value=-100).to(device)
        output["gold_rewards"] = self._grade_rewards[[pair.grade for pair in pairs]].to(device)
        return output

    def _stepwise(self, output: Batch, num_generations: int, mine: slice) -> torch.Tensor:
        config = self._task.config
        advantages = stepwise_advantages(
            self._rewards_now, num_generations, scale=self.scale_rewards != "none", clamp=config.clamp
        )
        weights = self.reward_weights.to(advantages.device).clone()
        if config.exact_grade > 0.0:
            weights[GRADE] = 0.0
        ids, mask = output["completion_ids"].tolist(), output["completion_mask"].sum(1).tolist()
        width = output["completion_ids"].shape[1]
        segments = torch.full((len(ids), width), -1)
        for index, (row, length) in enumerate(zip(ids, mask, strict=True)):
            found = self._task.codec.segments(row[:length])
            known = [k if k < len(self._segment_names) else -1 for k in found]
            segments[index, :length] = torch.tensor(known, dtype=torch.long)
        return spread((advantages * weights)[mine], segments.to(advantages.device))

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        config = self._task.config
        weight = anchor_weight(self.state.global_step, config.anchor.start, config.anchor.end, config.anchor.num_steps)
        learns = weight > 0.0 or config.exact_grade > 0.0
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            supervised, expected = self._gold_pass(model, inputs)
        accumulated = self.current_gradient_accumulation_steps if self.model.training else 1
        self._note("sft_loss", float(supervised.detach()))
        self._note("expected_grade_reward", float(expected.detach()))
        self._note("anchor_weight", weight)
        if not learns:
            return loss
        return loss + (weight * supervised - config.exact_grade * expected) / accumulated

    def _gold_pass(self, model: Any, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean supervised loss and mean expected grade reward over prompts of the batch, from one forward pass.

        One row for each prompt, as many as the batch has whole groups, and at least one on every process: under
        sharding no process may skip a forward pass the others make.
        """
        rows = _first_of_each(inputs["row"].tolist(), max(1, len(inputs["row"]) // self.num_generations))
        gold = inputs["gold_ids"][rows]
        answered = gold >= 0
        ids = torch.cat([inputs["prompt_ids"][rows], gold.clamp(min=0)], dim=1)
        mask = torch.cat([inputs["prompt_mask"][rows], answered.to(inputs["prompt_mask"].dtype)], dim=1)
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=gold.shape[1] + 1).logits[:, :-1]
        labels = torch.tensor(self._task.codec.label_token_ids, device=logits.device)
        first = torch.zeros(len(rows), dtype=torch.long, device=logits.device)
        supervised = answer_loss(logits, gold, first, self._task.config.grade_weight).mean()
        expected = expected_reward(logits[:, 0], labels, inputs["gold_rewards"][rows]).mean()
        self._note("grade_entropy", float(label_entropy(logits[:, 0].detach(), labels).mean()))
        return supervised, expected

    def _note(self, name: str, value: float) -> None:
        self._metrics["train" if self.model.training else "eval"][name].append(value)


def _first_of_each(rows: Sequence[int], most: int) -> list[int]:
    """Positions of the first occurrence of each value, at most `most` of them."""
    return [rows.index(row) for row in dict.fromkeys(rows)][:most]
