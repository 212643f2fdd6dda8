"""How many threads a model gets."""

from relevance.artifact import Artifact
from service.assembly import MAX_DEFAULT_WORKERS, SMALL_HIDDEN_SIZE, num_threads_for, num_workers_for
from tests.fakes import fake_artifact


def sized(hidden_size: int) -> Artifact:
    manifest = fake_artifact().manifest
    graph = manifest.graph.model_copy(update={"hidden_size": hidden_size})
    return Artifact(
        fake_artifact().folder, manifest.model_copy(update={"graph": graph}), "0" * 64, fake_artifact().tokenizer
    )


def test_a_small_model_gets_one_a_large_one_what_the_runtime_chooses_and_a_setting_wins() -> None:
    small, large = sized(SMALL_HIDDEN_SIZE - 1), sized(SMALL_HIDDEN_SIZE)
    assert num_threads_for(small, None, 1, 8) == 1
    assert num_threads_for(large, None, 1, 8) is None
    assert [num_threads_for(model, 3, 4, 8) for model in (small, large)] == [3, 3]


def test_workers_share_the_cores() -> None:
    assert [num_threads_for(sized(4096), None, workers, 8) for workers in (2, 3, 16)] == [4, 2, 1]
    assert num_threads_for(sized(64), None, 2, 8) == 1


def test_a_small_model_gets_a_process_per_core_and_a_large_one_a_process() -> None:
    small, large = SMALL_HIDDEN_SIZE - 1, SMALL_HIDDEN_SIZE
    assert [num_workers_for(small, cores) for cores in (1, 2, 64)] == [1, 2, MAX_DEFAULT_WORKERS]
    assert [num_workers_for(large, cores) for cores in (1, 2, 64)] == [1, 1, 1]
