"""A loss in a package of its own: installed, listed, right, and trained from the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "plugin"
SOURCE = Path(__file__).parents[2] / "src"
TESTS = Path(__file__).parents[1]
GUIDE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import generate, tuplet.losses
print(json.dumps([list(tuplet.losses.registry), generate.choosing(), generate.loss_table()]))
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


def test_the_pass_shows_what_the_package_holds():
    walk = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", walk, re.DOTALL)
    files = ("tuplet_lifted/__init__.py", "oracle.py", "pyproject.toml")
    for block, file in zip(blocks, files, strict=True):
        assert block in (PACKAGE / file).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_plugin_is_listed_in_the_guide(installed):
    names, choosing, table = json.loads(python(installed, "-c", GUIDE, PACKAGE.parents[1] / "docs").stdout)
    assert {"soft_lifted", "supcon"} <= {*names}
    assert "`soft_lifted`: soft extremes" in choosing
    assert "`SoftLiftedLoss`" in table


@pytest.mark.slow
def test_a_plugin_passes_the_battery_and_equals_its_oracle(installed):
    found = os.pathsep.join([installed["PYTHONPATH"], str(PACKAGE), str(TESTS)])
    words = ["-m", "pytest", TESTS / "battery", "-p", "oracle", "-k", "soft_lifted", "-q", "-n", "0"]
    done = python({**installed, "PYTHONPATH": found}, *words, cwd=PACKAGE.parents[1])
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40


@pytest.mark.slow
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
