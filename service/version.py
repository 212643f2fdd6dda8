"""The version of the service, as its answers tell it; pyproject.toml says the same."""

VERSION = "0.1.0"
