"""A loss in a package of its own: installed, listed, right, and trained from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "plugin"
SOURCE = Path(__file__).parents[2] / "src"
CHECK = """
import json, sys, torch
from tuplet.losses import registry
import tuplet_lifted
sys.path.insert(0, sys.argv[1])
from oracle import soft_lifted
x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
labels = torch.arange(12) % 4
found, truth = registry["soft_lifted"](margin=0.5)(x, labels), soft_lifted(x, labels, 0.5)
found_by, truth_by = (torch.autograd.grad(value, x)[0] for value in (found, truth))
torch.testing.assert_close(found, truth, rtol=1e-10, atol=0)
torch.testing.assert_close(found_by, truth_by, rtol=0, atol=1e-10)
torch.testing.assert_close(tuplet_lifted.soft_lifted(x, labels, margin=0.5), found)
print(json.dumps(list(registry)))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the package lies; nothing is asked of an index."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--target", target, PACKAGE], capture_output=True, text=True, check=False, cwd=target
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (target, SOURCE)))}


def python(environment, *words, cwd=None):
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_plugin_is_listed_and_equals_its_oracle(installed):
    names = json.loads(python(installed, "-c", CHECK, PACKAGE).stdout)
    assert "soft_lifted" in names
    assert "supcon" in names


def test_a_plugin_trains_from_the_command_line(installed, tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 9)
    rows = random.normal(size=(20, 6))[labels] + random.normal(size=(180, 6))
    table = [",".join([*(f"x{k}" for k in range(6)), "label"])]
    table += [",".join([*(f"{x:.4f}" for x in row), f"c{label}"]) for row, label in zip(rows, labels, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    settings = ["loss=soft_lifted", "loss.margin=0.5", "train.steps=6", "evaluate.bootstrap=0"]
    words = [word for setting in settings for word in ("--set", setting)]
    python(installed, "-m", "tuplet", "train", "table.csv", *words, "--out", "runs", cwd=tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "model" / "embedder.json").read_text())["geometry"] == "squared_euclidean"
    assert json.loads((run / "evaluation.json").read_text())["geometry"] == "squared_euclidean"
