"""What the engine runs on is what was asked for, or nothing."""

from pathlib import Path

import onnxruntime
import pytest

from engine.ort import PROVIDERS, OrtEngine
from relevance.artifact import load_artifact
from relevance.errors import ArtifactError

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this one can")
def test_a_provider_that_is_not_there_is_an_error_and_no_slow_service() -> None:
    with pytest.raises(ArtifactError, match="CUDAExecutionProvider"):
        OrtEngine(load_artifact(TINY), providers=PROVIDERS["cuda"])


def test_every_provider_that_can_be_set_has_its_order() -> None:
    from service.settings import Settings  # noqa: PLC0415 - the engine does not know the service

    assert set(PROVIDERS) == set(Settings.model_fields["provider"].annotation.__args__)
