"""The site, built once, and a browser for all tests that look at it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """`mkdocs build --strict`: a warning is an error."""
    for package in ("material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(package, reason="the site is built with tuplet[docs] (make setup)")
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own  # which all workers have in common
    folder = place / "site"
    with FileLock(place / "site.lock"):
        if not folder.exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", own / "built"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            (own / "built").rename(folder)
    return folder


@pytest.fixture(scope="module")
def browser(chromium):
    """Chromium, started."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  not installed where these tests are skipped

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"])
        yield found
        found.close()
