"""How long the command line takes to answer: milliseconds of `tuplet --help` beside a Python that does nothing, and of
a search for a picture, which needs torch.

Run `make bench BENCH=benchmarks/bench_start.py`. The bound is on the clock, so other work on the machine counts.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import compare, record
from PIL import Image

BOUND, SEARCH = "<= 150 ms", "<= 3000 ms"


def process(*words: str) -> Callable[[], object]:
    """A Python process, from start to end."""
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def main() -> None:
    """Print and record everything."""
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch))


def a_run(folder: Path) -> tuple[str, str]:
    """A run on glyphs, and a picture."""
    sets = ["--set", "data.source=glyphs", "--set", "evaluate.bootstrap=100", "--name", "start"]
    train = [sys.executable, "-m", "tuplet", "train", "glyphs", "--steps", "4", *sets]
    subprocess.run(train, cwd=folder, check=True, capture_output=True)
    picture = folder / "new.png"
    Image.new("L", (64, 64), 128).save(picture)
    return str(folder / "runs" / "start"), str(picture)


def measure(folder: Path) -> None:
    """Print and record everything, with a run in a folder."""
    contestants = {
        "tuplet --help": process("-m", "tuplet", "--help"),
        "tuplet train --help": process("-m", "tuplet", "train", "--help"),
        "tuplet search RUN new.png": process("-m", "tuplet", "search", *a_run(folder)),
        "import torch": process("-c", "import torch"),
        "import typer": process("-c", "import typer"),
        "python -c pass": process("-c", "pass"),
    }
    against = [
        ("tuplet --help", "python -c pass", BOUND),
        ("tuplet train --help", "python -c pass", ""),
        ("tuplet search RUN new.png", "import torch", SEARCH),
        ("import torch", "python -c pass", ""),
        ("import typer", "python -c pass", ""),
        ("python -c pass", "python -c pass", ""),
    ]
    record("start of the command line", compare("1 process", contestants, against, turns=7, clock=time.perf_counter))


if __name__ == "__main__":
    main()
