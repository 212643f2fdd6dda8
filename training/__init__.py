"""Offline training of relevance scorers; see docs/training.md."""
