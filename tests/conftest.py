"""Settings of the whole suite: one thread per process, deterministic examples, skips that say what is missing."""

import importlib.util
import os
import shutil
from pathlib import Path

# Two workers share two cores. Set before torch is imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Many tests start a Python of their own. Without compiled modules each compiles two thousand: half of its time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".cache" / "pycache"))

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

import shapes
from typist import shared

jaxtyping.jaxtyped = shapes.jaxtyped

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# The same clone gives the same result; `--hypothesis-profile=explore` looks for new examples.
settings.register_profile("fixed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("fixed")


pytest_plugins = ["shown"]  # what tests show of each loss, for a page of the docs


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Modules that kill, limit or fork processes need a system that can; elsewhere they could not be imported."""
    if hasattr(os, "fork") or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return True if "import resource" in text or "os.fork()" in text else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("distributed") and not hasattr(os, "fork"):
            item.add_marker(pytest.mark.skip(reason="the system has no fork"))
        if item.get_closest_marker("browser") and (reason := _no_browser()):
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("gpu") and (reason := _no_accelerator()):
            item.add_marker(pytest.mark.skip(reason=reason))


def _no_browser() -> str:
    if CHROMIUM is None:
        return "no Chromium on the PATH (apt-get install chromium)"
    return "" if importlib.util.find_spec("playwright") else "playwright is not installed (make setup)"


def _no_accelerator() -> str:
    import torch  # noqa: PLC0415  # most runs hold no gpu test and need no torch to collect

    return "" if torch.cuda.is_available() else "torch.cuda.is_available() is false"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that `browser` tests drive."""
    assert CHROMIUM is not None, "mark the test with pytest.mark.browser"
    return CHROMIUM


@pytest.fixture(scope="session")
def postgres():
    """Address of a PostgreSQL server that runs while the tests do."""
    if not hasattr(os, "fork"):
        pytest.skip("the server runs as another user, which this system cannot change to")
    from pgserver import running  # noqa: PLC0415  imports what is not everywhere

    with running() as address:
        yield address


@pytest.fixture(scope="session")
def starter():
    """Starts commands, in processes that find all modules imported where the system can fork."""
    return shared()


@pytest.fixture(scope="session")
def typist(starter):
    """The same for tests of so many commands that each must cost no start: `typist(words, folder)`, `typist.start`."""
    if not hasattr(os, "fork"):
        pytest.skip("the system has no fork, by which typist.py starts a command in no time")
    return starter
