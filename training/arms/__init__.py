"""The arms: ways to train the same small policy, compared on the same pairs."""
