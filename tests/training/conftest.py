"""A tiny checkpoint and a data folder, made once."""

import gzip
import json
import random
from pathlib import Path

import pytest
import torch

from model_export.tiny import write_checkpoint

torch.set_num_threads(1)  # tiny matrices: a second thread only waits

QUERIES = ["usb cable", "egg", "running shoes", "water kettle", "capital city", "read file"]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint(folder, is_late=False)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose grade is 3 where the document repeats the query and 0 where it does not."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    for name, count in (("train", 200), ("val", 60)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as out:
            for _ in range(count):
                query = rng.choice(QUERIES)
                shown = query if rng.random() < 0.5 else rng.choice([q for q in QUERIES if q != query])
                row = {"query": query, "document": f"the {shown} is good", "grade": 3 if shown == query else 0}
                out.write(json.dumps(row) + "\n")
    with (folder / "soft.jsonl").open("w") as out:
        for query in QUERIES:
            row = {"query": query, "document": "a case", "distribution": [0.7, 0.2, 0.1, 0.0]}
            out.write(json.dumps(row) + "\n")
    return folder
