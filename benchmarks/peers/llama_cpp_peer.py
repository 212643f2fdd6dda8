"""llama.cpp through llama-cpp-python, Q8_0: its best way to score many documents of one query.

The prefix is decoded once and its cells are shared with a sequence for each document (`llama_memory_seq_cp`); documents
are decoded many to a batch, one sequence each, and only the last token of each asks for logits. That is more than its
server or its Python class do for a reranker, and it is what ours has too: a prefix computed once, and no padding.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.peers.gguf_file import write_gguf
from benchmarks.peers.peer import Files, Peer, PeerMissing, Scored, Setting
from benchmarks.peers.prompts import load_encoder
from relevance.prompt import PromptEncoder
from relevance.spec import ScoringSpec
from relevance.tokenization import JsonTokenizer

FILE = "q8_0.gguf"
PREFIX_SEQUENCE = 0
MAX_SEQUENCES = 64
CONTEXT_TOKENS = 8192
BATCH_TOKENS = 2048
MICRO_BATCH_TOKENS = 512


class LlamaPeer:
    """A context of llama.cpp."""

    def __init__(self, library: Any, context: Any, encoder: PromptEncoder, labels: Sequence[int]) -> None:
        self._library = library
        self._context = context
        self._memory = library.llama_get_memory(context)
        self._batch = library.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._encoder = encoder
        self._labels = list(labels)

    def score(self, query: str, documents: Sequence[str]) -> Scored:
        """Tokenise, prefix once, documents behind it."""
        prefix = self._encoder.encode_prefix(query)
        encoded = [document.ids for document in self._encoder.encode_documents(prefix, documents)]
        self._library.llama_memory_clear(self._memory, False)
        self._decode([(PREFIX_SEQUENCE, 0, prefix.ids)])
        logits = np.empty((len(documents), len(self._labels)), dtype=np.float32)
        for group in groups_of([len(ids) for ids in encoded]):
            for sequence in range(1, len(group) + 1):
                self._library.llama_memory_seq_cp(self._memory, PREFIX_SEQUENCE, sequence, -1, -1)
            rows = [(sequence, len(prefix.ids), encoded[place]) for sequence, place in enumerate(group, start=1)]
            logits[group] = self._decode(rows)
            for sequence in range(1, len(group) + 1):
                self._library.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return Scored(logits, len(prefix.ids) + sum(map(len, encoded)))

    def _decode(self, rows: Sequence[tuple[int, int, Sequence[int]]]) -> "np.ndarray[Any, Any]":
        """Label logits [R, K] at the last token of each row of (sequence, first position, ids)."""
        batch, read = self._batch, []
        batch.n_tokens = 0
        for sequence, start, ids in rows:
            for offset, token in enumerate(ids):
                at = batch.n_tokens
                batch.token[at], batch.pos[at] = token, start + offset
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = offset == len(ids) - 1
                batch.n_tokens += 1
            read.append(batch.n_tokens - 1)
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode: {status}")
        pointers = [self._library.llama_get_logits_ith(self._context, place) for place in read]
        return np.array([[pointer[label] for label in self._labels] for pointer in pointers], dtype=np.float32)


def groups_of(lengths: Sequence[int]) -> list[list[int]]:
    """Documents in order, in groups of at most BATCH_TOKENS tokens and MAX_SEQUENCES - 1 documents."""
    groups: list[list[int]] = []
    room = 0
    for place, length in enumerate(lengths):
        if not groups or length > room or len(groups[-1]) == MAX_SEQUENCES - 1:
            groups.append([])
            room = BATCH_TOKENS
        groups[-1].append(place)
        room -= length
    return groups


def prepare(files: Files, setting: Setting) -> None:  # noqa: ARG001
    """Write the GGUF file if it is not there."""
    _library("gguf")
    if not (files.work / FILE).is_file():
        write_gguf(files.checkpoint, files.work / FILE)


def open_peer(files: Files, setting: Setting, threads: int, batch_tokens: int) -> Peer:  # noqa: ARG001
    """Load the GGUF file."""
    library = _library("llama_cpp")
    library.llama_backend_init()
    model = library.llama_model_load_from_file(str(files.work / FILE).encode(), library.llama_model_default_params())
    if not model:
        raise PeerMissing("llama.cpp did not load the GGUF file")
    options = library.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = CONTEXT_TOKENS, BATCH_TOKENS, MICRO_BATCH_TOKENS
    options.n_seq_max, options.kv_unified = MAX_SEQUENCES, True
    options.n_threads = options.n_threads_batch = threads
    context = library.llama_init_from_model(model, options)
    tokenizer = JsonTokenizer.from_file(files.checkpoint / "tokenizer.json")
    labels = ScoringSpec.preset(files.spec or "qwen3-grades").scale.resolve_label_token_ids(tokenizer)
    return LlamaPeer(library, context, load_encoder(files.checkpoint, files.spec), labels)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PeerMissing(f"{error.name} is not installed (make install-bench)") from error
