"""The rule book: rules of relevance as versioned data, and what they say of pairs; see docs/evolution.md."""

from training.rules.book import Condition, Effect, Origin, Rule, RuleBook, RuleBookError, RuleExample, rules_of

__all__ = ["Condition", "Effect", "Origin", "Rule", "RuleBook", "RuleBookError", "RuleExample", "rules_of"]
