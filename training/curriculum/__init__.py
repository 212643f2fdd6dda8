"""Curriculum: stages of training chosen by measured difficulty, run one after the other; see docs/curriculum.md."""
