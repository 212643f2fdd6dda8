"""How many threads a model gets."""

from relevance.artifact import Artifact
from service.assembly import SMALL_HIDDEN_SIZE, num_threads_for
from tests.fakes import fake_artifact


def sized(hidden_size: int) -> Artifact:
    manifest = fake_artifact().manifest
    graph = manifest.graph.model_copy(update={"hidden_size": hidden_size})
    return Artifact(
        fake_artifact().folder, manifest.model_copy(update={"graph": graph}), "0" * 64, fake_artifact().tokenizer
    )


def test_a_small_model_gets_one_a_large_one_what_the_runtime_chooses_and_a_setting_wins() -> None:
    assert num_threads_for(sized(SMALL_HIDDEN_SIZE - 1), None) == 1
    assert num_threads_for(sized(SMALL_HIDDEN_SIZE), None) is None
    assert [num_threads_for(sized(size), 3) for size in (64, 4096)] == [3, 3]
