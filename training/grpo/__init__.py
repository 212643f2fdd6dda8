"""Answers of a policy: supervised, then Stepwise-GRPO with a supervised anchor, on TRL."""
