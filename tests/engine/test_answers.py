"""What must hold of answers that go on from a pair: those of torch, whatever they are computed with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.answer_batch import open_answer_batch
from engine.base import AnswerKV, AnswerWork, DocumentWork, PromptKV
from engine.ort import OrtEngine
from model_export.checkpoint import Checkpoint, load_checkpoint
from model_export.parity import DEFAULT_THRESHOLDS
from model_export.publish import ExportOptions, export
from model_export.tiny import write_checkpoint
from modeling.decode import AnswerDecoder
from relevance.artifact import ANSWER_GRAPH_FILE, Artifact, load_artifact
from relevance.attention import Attention

DEFAULT = Path(__file__).parents[2] / "artifacts" / "default"
QUERY = "usb c cable 2 m"
DOCUMENTS = ("USB-C to USB-C cable, 1 m, 60 W, braided", "wool socks", "HDMI cable " * 20, "a")
# The int8 graph's sums are exact: its logits are the same to the bit. fp32 sums depend on where a token lies.
TOLERANCE = {"fp32": 1e-4, "int8": 0.0}

# int8 of random weights agrees with fp32 less than the gate wants.
LOOSE = {
    name: replace(one, max_difference=1.0, mean_difference=1.0, decided_flips=1.0, kendall_tau=-1.0)
    for name, one in DEFAULT_THRESHOLDS.items()
}

Pairs = tuple[OrtEngine, Artifact, list[PromptKV]]


@pytest.fixture(scope="module", params=["late", "segment", "causal"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Artifact]:
    """A tiny checkpoint and its artifact, under each attention."""
    folder, attention = tmp_path_factory.mktemp("answers"), request.param
    write_checkpoint(folder / "checkpoint", is_late=attention == "late")
    checkpoint = load_checkpoint(str(folder / "checkpoint"))
    spec = checkpoint.spec.model_copy(update={"attention": attention})
    spec.to_file(folder / "checkpoint" / "scoring_spec.json")
    export(ExportOptions(str(folder / "checkpoint"), folder / "artifact", "fp32", "none", DEFAULT_THRESHOLDS))
    return replace(checkpoint, spec=spec), load_artifact(folder / "artifact")


def without_answer_graph(artifact: Artifact) -> Artifact:
    """The same, whose answers grow in rows of its only graph."""
    files = {name: entry for name, entry in artifact.manifest.files.items() if name != ANSWER_GRAPH_FILE}
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"files": files}))


@pytest.fixture(scope="module", params=["tiny", "tiny, one graph", "default"])
def pairs(request: pytest.FixtureRequest) -> Pairs:
    artifact = load_artifact(DEFAULT if request.param == "default" else DEFAULT.parents[1] / "tests/data/tiny_artifact")
    if request.param == "tiny, one graph":
        artifact = without_answer_graph(artifact)
    engine = OrtEngine(artifact, num_threads=1)
    return engine, artifact, keep(engine, artifact)


def keep(engine: OrtEngine, artifact: Artifact, documents: Sequence[str] = DOCUMENTS) -> list[PromptKV]:
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    prefix = encoder.encode_prefix(QUERY)
    (kv,) = engine.prefill_prefixes([prefix.ids])
    work = [DocumentWork(kv, document.ids, True) for document in encoder.encode_documents(prefix, documents)]
    return [one for one in engine.keep_documents(work)[1] if one is not None]


def grow(engine: OrtEngine, prompts: Sequence[PromptKV], chunks: Sequence[Sequence[int]]) -> np.ndarray:
    """Logits [T, N, V] after each chunk of tokens, the same for every answer."""
    answers = [AnswerKV(prompt) for prompt in prompts]
    return np.stack([engine.extend_answers([AnswerWork(answer, chunk) for answer in answers]) for chunk in chunks])


def said(artifact: Artifact, length: int) -> list[int]:
    """Tokens to say: a grade, then whatever."""
    vocabulary = artifact.manifest.graph.vocab_size
    rest = np.random.default_rng(0).integers(5, vocabulary, length - 1).tolist()
    return [artifact.manifest.label_token_ids[1], *rest]


@pytest.mark.parametrize("has_answer_graph", [True, False])
def test_every_token_is_the_one_of_torch(made: tuple[Checkpoint, Artifact], has_answer_graph: bool) -> None:
    checkpoint, artifact = made
    assert artifact.answer_graph_path is not None
    artifact = artifact if has_answer_graph else without_answer_graph(artifact)
    engine = OrtEngine(artifact, num_threads=1)
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    prefix = encoder.encode_prefix(QUERY)
    documents = encoder.encode_documents(prefix, DOCUMENTS)
    attention: Attention = artifact.manifest.spec.attention
    decoder = AnswerDecoder(checkpoint.model, attention)
    num_suffix = encoder.num_suffix_tokens
    segments = [[0] * len(prefix.ids) + [1] * (len(d.ids) - num_suffix) + [2] * num_suffix for d in documents]
    decoder.start([(*prefix.ids, *document.ids) for document in documents], segments)
    answers = [AnswerKV(one) for one in keep(engine, artifact)]
    tokens = torch.tensor([artifact.manifest.label_token_ids[index % 4] for index in range(len(documents))])
    for _ in range(12):
        expected = decoder.step(tokens).numpy()
        works = [AnswerWork(answer, (int(token),)) for answer, token in zip(answers, tokens, strict=True)]
        np.testing.assert_allclose(engine.extend_answers(works), expected, rtol=0, atol=TOLERANCE["fp32"])
        tokens = torch.tensor(expected.argmax(1))
    assert np.ptp(expected, axis=0).max() > 0.1  # they are not all alike


def test_alone_as_in_a_batch_of_32(pairs: Pairs) -> None:
    engine, artifact, prompts = pairs
    chunks = [[token] for token in said(artifact, 6)]
    together = grow(engine, prompts * 8, chunks)
    for index, prompt in enumerate(prompts):
        alone = grow(engine, [prompt], chunks)[:, 0]
        for copy in range(index, 32, len(prompts)):
            np.testing.assert_allclose(together[:, copy], alone, rtol=0, atol=TOLERANCE[artifact.manifest.precision])


def test_a_run_of_tokens_as_one_by_one(pairs: Pairs) -> None:
    engine, artifact, prompts = pairs
    tokens = said(artifact, 9)
    singly = grow(engine, prompts, [[token] for token in tokens])
    in_runs = grow(engine, prompts, [tokens[:1], tokens[1:6], tokens[6:]])
    atol = TOLERANCE[artifact.manifest.precision]
    np.testing.assert_allclose(in_runs, singly[[0, 5, 8]], rtol=0, atol=atol)


def test_resumed_as_computed_once_more(pairs: Pairs) -> None:
    engine, artifact, prompts = pairs
    chunks = [[token] for token in said(artifact, 4)]
    again = [keep(engine, artifact, [document])[0].copy() for document in DOCUMENTS]
    np.testing.assert_allclose(
        grow(engine, again, chunks), grow(engine, prompts, chunks), rtol=0, atol=TOLERANCE[artifact.manifest.precision]
    )


def test_keeping_changes_no_score(pairs: Pairs) -> None:
    engine, artifact, _ = pairs
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    prefix = encoder.encode_prefix(QUERY)
    (kv,) = engine.prefill_prefixes([prefix.ids])
    ids = [document.ids for document in encoder.encode_documents(prefix, DOCUMENTS)]
    scored = engine.score_documents([DocumentWork(kv, one) for one in ids])
    kept_scores, kept = engine.keep_documents([DocumentWork(kv, one, index == 1) for index, one in enumerate(ids)])
    np.testing.assert_array_equal(kept_scores, scored)
    assert [one is not None for one in kept] == [False, True, False, False]


def test_what_was_said_matters(pairs: Pairs) -> None:
    engine, artifact, prompts = pairs
    tokens = said(artifact, 3)
    found = grow(engine, prompts[:1], [[tokens[0]], [tokens[1]], [tokens[2]]])[2]
    other = grow(engine, prompts[:1], [[tokens[1]], [tokens[0]], [tokens[2]]])[2]
    assert np.abs(found - other).max() > 1e-3


def test_in_int8_both_graphs_give_the_same_bits(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    export(ExportOptions(str(tmp_path / "checkpoint"), tmp_path / "artifact", "int8", "none", LOOSE))
    artifact = load_artifact(tmp_path / "artifact")
    chunks = [said(artifact, 9)[start:end] for start, end in ((0, 1), (1, 5), (5, 9))]
    found = []
    for one in (artifact, without_answer_graph(artifact)):
        engine = OrtEngine(one, num_threads=1)
        found.append(grow(engine, keep(engine, one), chunks))
    np.testing.assert_array_equal(*found)


def test_answers_come_and_go_between_steps(pairs: Pairs) -> None:
    engine, artifact, prompts = pairs
    tokens = said(artifact, 8)
    expected = grow(engine, prompts, [[token] for token in tokens])
    answers = [AnswerKV(prompt) for prompt in prompts]
    # Each step has other answers, of other lengths, in another order.
    for step in range(3 * len(tokens)):
        chosen = [index for index in range(len(prompts)) if (step + index) % 3 and answers[index].num_tokens < 8]
        chosen = chosen[::-1] if step % 2 else chosen
        if not chosen:
            continue
        places = [answers[index].num_tokens for index in chosen]
        works = [AnswerWork(answers[i], [tokens[place]]) for i, place in zip(chosen, places, strict=True)]
        found = engine.extend_answers(works)
        for row, index, place in zip(found, chosen, places, strict=True):
            atol = TOLERANCE[artifact.manifest.precision]
            np.testing.assert_allclose(row, expected[place, index], rtol=0, atol=atol)
    assert all(answer.num_tokens == 8 for answer in answers)


def test_the_logits_asked_for_are_those_of_the_whole_vocabulary(pairs: Pairs) -> None:
    engine, artifact, prompts = pairs
    tokens = said(artifact, 5)
    whole = grow(engine, prompts[:2], [tokens])[0]
    wanted = [np.array([90, 7, 190]), np.zeros(0, dtype=np.int64)]
    works = [AnswerWork(AnswerKV(prompt), tokens, ids) for prompt, ids in zip(prompts[:2], wanted, strict=True)]
    found = engine.extend_answers(works)
    atol = TOLERANCE[artifact.manifest.precision]
    for row, ids, expected in zip(found, wanted, whole, strict=True):
        np.testing.assert_allclose(row, expected[ids], rtol=0, atol=atol)


def test_two_companies_of_answers_keep_their_banks_and_both_say_what_they_would_alone() -> None:
    artifact = load_artifact(DEFAULT.parents[1] / "tests/data/tiny_artifact")
    batch = open_answer_batch(artifact, 1, False)
    assert batch is not None
    engine = OrtEngine(artifact, num_threads=1)
    prompt = keep(engine, artifact, ["wool socks"])[0]
    tokens = said(artifact, 6)
    expected = grow(engine, [prompt], [[token] for token in tokens])[:, 0]
    companies = [[AnswerKV(prompt) for _ in range(3)] for _ in range(2)]
    for place, token in enumerate(tokens):
        for answers in companies:
            found = batch.extend([AnswerWork(answer, [token]) for answer in answers])
            np.testing.assert_allclose(found, [expected[place]] * 3, rtol=0, atol=TOLERANCE["fp32"])
    assert [len(bank.owners) for bank in batch.banks] == [3, 3]
    assert [bank.num_displaced([]) for bank in batch.banks] == [0, 0]


def test_banks_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = load_artifact(DEFAULT.parents[1] / "tests/data/tiny_artifact")
    batch = open_answer_batch(artifact, 1, False)
    assert batch is not None
    monkeypatch.setattr("engine.answer_batch.MAX_BANK_BYTES", 1)
    short, long = keep(OrtEngine(artifact, num_threads=1), artifact, ["wool socks", "HDMI cable " * 40])
    for prompt in (short, long, short):
        batch.extend([AnswerWork(AnswerKV(prompt), [7])])
        assert len(batch.banks) == 1
