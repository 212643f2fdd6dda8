"""The policy of the GRPO tests."""

from tests.training.grpo.conftest import answering, answers_dir, base

__all__ = ["answering", "answers_dir", "base"]
