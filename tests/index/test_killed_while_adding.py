"""Processes killed while they add: every item that they acknowledged is there, none twice, and the next one goes on."""

import time
from itertools import islice

import numpy as np
import pytest

from tuplet import index as indexes
from tuplet.data import Manifest
from tuplet.data.transforms import VectorPreprocessing
from tuplet.models import Embedder, build_encoder

ROWS = np.random.default_rng(8).normal(size=(3000, 5)).astype(np.float32)
ADD = """
import sys, numpy as np
from tuplet import index
from tuplet.data import Manifest
from tuplet.index import collect
collect.BATCH = 5
rows = np.load(sys.argv[2])
manifest = Manifest("vector", tuple(f"row {at}" for at in range(len(rows))), rows)
index.add(index.open(sys.argv[1]), manifest, progress=lambda done, count: print(len(rows) - count + done, flush=True))
"""


def make():
    config = {"name": "linear", "in_dim": 5, "dim": 4}
    return Embedder(build_encoder(config, seed=1), VectorPreprocessing(), encoder_config=config)


def kill(process, after, wait):
    """Kill it some time after so many words; the last number of items that it acknowledged."""
    list(islice(process.lines(), after))
    time.sleep(wait)
    process.kill()
    *_, last = [0, *(int(line) for line in process.lines() if line.endswith("\n"))]
    return last


def check(folder, acknowledged):
    index = indexes.open(folder)
    assert index.check() == []
    names = [item["id"] for item in index.items]
    assert len(index) == len(set(names)) == len(names)
    assert set(names) >= {f"row {at}" for at in range(acknowledged)}
    assert len(names) <= acknowledged + 5  # what was being added when it was killed
    last = f"row {acknowledged - 1}"
    assert last in index.search(make().embed(ROWS[acknowledged - 1 : acknowledged]), 1).ids[0]
    return index


def kill_some(create, typist, tmp_path, kills, seed):
    np.save(tmp_path / "rows.npy", ROWS)
    sampled = np.random.default_rng(seed)
    index = create(make(), "killed")
    acknowledged = 0
    for _ in range(kills):
        process = typist.start(["python", "-c", ADD, index.folder, tmp_path / "rows.npy"], tmp_path)
        found = kill(process, int(sampled.integers(1, 7)), sampled.random() * 0.02)
        assert found > acknowledged or found == len(ROWS)
        acknowledged = found
        index = check(index.folder, acknowledged)
    there = len(index)
    manifest = Manifest("vector", tuple(f"row {at}" for at in range(len(ROWS))), ROWS)
    done = indexes.add(index, manifest)
    assert (done.there, done.added, done.embedded) == (there, len(ROWS) - there, len(ROWS) - there)
    assert (len(index), index.check()) == (len(ROWS), [])


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_few_kills(create, typist, tmp_path):
    kill_some(create, typist, tmp_path, kills=2, seed=0)


@pytest.mark.weekly
def test_what_was_acknowledged_is_there_after_fifty_kills(create, typist, tmp_path):
    kill_some(create, typist, tmp_path, kills=50, seed=1)
