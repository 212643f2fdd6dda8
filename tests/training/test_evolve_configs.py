"""The shipped configurations of evolution are valid."""

from pathlib import Path

import pytest

from training.evolve.config import EvolveConfig

FOLDER = Path(__file__).parents[2] / "configs" / "training"


@pytest.mark.parametrize("name", ["evolve.toml", "evolve_llm.toml"])
def test_shipped_configurations(name: str) -> None:
    config = EvolveConfig.from_toml(FOLDER / name)
    assert config.proposal_level == config.level / (config.num_rounds * config.proposals_per_round)
    assert (config.endpoint is None) == (name == "evolve.toml")
