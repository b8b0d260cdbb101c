"""One real run, made by the command line, for all tests of this folder."""

from functools import partial
from pathlib import Path

import pytest

import digits

HOSTILE = "<b>one & only</b>"  # the name of a class is a user's text, and lands in a page

# No graphics card and no network in a test: software WebGL, no look-ups in the background.
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]

RECIPE = """
extends = "glyphs"
name = "digits"
[data]
source = "digits"
[data.split]
by = "row"
[model]
preprocessing = { name = "image", size = 16, channels = 1 }
[loss]
name = "triplet"
select = "batch_hard"
geometry = "euclidean"
soft = true
[batch]
classes_per_batch = 8
per_class = 4
[train]
steps = 30
validate_every = 10
[evaluate]
bootstrap = 200
"""


@pytest.fixture(scope="session")
def tuplet(starter):
    """Type a command in a folder; what it said, once its exit code is checked."""

    def type_command(*words, folder, stdin="", code=0):
        said = starter(words, folder, stdin)
        assert said.returncode == code, f"{said.returncode}\n{said.stdout}\n{said.stderr}"
        assert "Traceback" not in said.stderr
        return said

    return type_command


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with `digits/`, images by class, and a recipe for them."""
    folder = tmp_path_factory.mktemp("work")
    digits.write(folder / "digits", 400, 16, lambda label: HOSTILE if label == 1 else str(label))
    (folder / "digits.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="session")
def trained(workplace, tuplet):
    """What `tuplet train` said."""
    return tuplet("train", "digits.toml", folder=workplace)


@pytest.fixture(scope="session")
def run(workplace, trained) -> Path:
    """The folder of that run."""
    return workplace / "runs" / "digits"


@pytest.fixture
def typed(tmp_path, typist, tuplet):
    """Type a command in a folder of one's own; what it said, once its exit code is checked."""
    del typist  # there are many of them
    return partial(tuplet, folder=tmp_path)


@pytest.fixture(scope="module")  # while it runs, so does an event loop, and tests of other modules start their own
def browser(chromium):
    """Chromium, started."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  not installed where these tests are skipped

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()
