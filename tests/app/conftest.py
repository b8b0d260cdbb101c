"""One real run, made by the command line, for all tests of this folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

HOSTILE = "<b>one & only</b>"  # the name of a class is a user's text, and lands in a page

RECIPE = """
extends = "glyphs"
name = "digits"
[data]
source = "digits"
[data.split]
by = "row"
[model]
preprocessing = { name = "image", size = 16, channels = 1 }
[batch]
classes_per_batch = 8
per_class = 4
[train]
steps = 30
validate_every = 10
[evaluate]
bootstrap = 200
"""


def _tuplet(*words, folder, stdin=None, code=0):
    command = [sys.executable, "-m", "tuplet", *map(str, words)]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="session")
def tuplet():
    """Run the command line as a person does; the finished process, whose exit code is checked."""
    return _tuplet


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with `digits/`, images by class, and a recipe for them."""
    folder = tmp_path_factory.mktemp("work")
    found = load_digits()
    for number, (pixels, label) in enumerate(zip(found.images[:400], found.target[:400], strict=True)):
        place = folder / "digits" / (HOSTILE if label == 1 else str(label))
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.uint8(pixels * 15.9)).resize((16, 16))
        image.save(place / f"{number:04d}.png")
    (folder / "digits.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="session")
def trained(workplace, tuplet) -> subprocess.CompletedProcess[str]:
    """`tuplet train`, finished."""
    return tuplet("train", "digits.toml", folder=workplace)


@pytest.fixture(scope="session")
def run(workplace, trained) -> Path:
    """The folder of that run."""
    return workplace / "runs" / "digits"


class Said(NamedTuple):
    """What a command said."""

    out: str
    err: str


@pytest.fixture(scope="session")
def typist(tmp_path_factory):
    """A process that types commands, so that modules are imported once for all of them."""
    if not hasattr(os, "fork"):
        pytest.skip("the system has no fork, by which typist.py leaves one command no trace of another")
    said = tmp_path_factory.mktemp("said")
    command = [sys.executable, str(Path(__file__).with_name("typist.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    with subprocess.Popen(command, text=True, **pipes) as process:
        yield process, said
        process.stdin.close()


@pytest.fixture
def typed(tmp_path, typist):
    """Type a command in a folder of one's own; what it said, once its exit code is checked."""
    process, said = typist

    def type_command(*words, code=0):
        asked = {"words": [*map(str, words)], "folder": str(tmp_path), "said": str(said)}
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        left = int(process.stdout.readline())
        out, err = ((said / name).read_text() for name in ("stdout", "stderr"))
        assert left == code, err
        assert "Traceback" not in err
        return Said(out, err)

    return type_command
