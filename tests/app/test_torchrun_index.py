"""`index build` and `embed` under torchrun: the same as by one process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tuplet import index as indexes

pytestmark = pytest.mark.distributed


def torchrun(*words, folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tuplet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_fill_an_index_as_one_does(workplace, run, tuplet):
    built = ("--model", "runs/digits", "digits", "--json")
    [two] = map(json.loads, torchrun("index", "build", "two.index", *built, folder=workplace).splitlines())
    [one] = map(json.loads, tuplet("index", "build", "one.index", *built, folder=workplace).stdout.splitlines())
    assert two == one
    first, second = indexes.open(workplace / "one.index"), indexes.open(workplace / "two.index")
    assert list(first.items) == list(second.items)
    assert second.check() == []
    np.testing.assert_allclose(second.embeddings, first.embeddings, rtol=1e-5, atol=1e-6)
    [again] = map(json.loads, torchrun("index", "build", "two.index", *built, folder=workplace).splitlines())
    assert (again["added"], again["embedded"], again["there"]) == (0, 0, two["items"])


@pytest.mark.slow
def test_two_processes_embed_what_one_does(workplace, run, tuplet):
    torchrun("embed", "runs/digits", "digits/3", "-o", "two.npy", folder=workplace)
    tuplet("embed", "runs/digits", "digits/3", "-o", "one.npy", folder=workplace)
    np.testing.assert_allclose(np.load(workplace / "two.npy"), np.load(workplace / "one.npy"), rtol=1e-5, atol=1e-6)
    assert (workplace / "two.ids.txt").read_text() == (workplace / "one.ids.txt").read_text()
