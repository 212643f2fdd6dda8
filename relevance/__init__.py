"""The core that training, export and service share: pairs, grades, prompt, scoring, metrics, artifact."""
