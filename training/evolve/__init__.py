"""Instruction evolution: the rule book changes where model and gold disagree, if that helps; see docs/evolution.md."""
