"""Runs an artifact: token ids in, label logits out. Shared by service, export gate, evaluation and benchmarks."""
