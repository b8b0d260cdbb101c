"""How long the command line takes to answer: milliseconds of `tuplet --help` beside a Python that does nothing.

Run `make bench BENCH=benchmarks/bench_start.py`. The bound is on the clock, so other work on the machine counts.
"""

import subprocess
import sys
import time
from collections.abc import Callable

from measure import compare, record

BOUND = "<= 150 ms"


def process(*words: str) -> Callable[[], object]:
    """A Python process, from start to end."""
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def main() -> None:
    """Print and record everything."""
    contestants = {
        "tuplet --help": process("-m", "tuplet", "--help"),
        "tuplet train --help": process("-m", "tuplet", "train", "--help"),
        "import typer": process("-c", "import typer"),
        "python -c pass": process("-c", "pass"),
    }
    against = [
        ("tuplet --help", "python -c pass", BOUND),
        ("tuplet train --help", "python -c pass", ""),
        ("import typer", "python -c pass", ""),
        ("python -c pass", "python -c pass", ""),
    ]
    record("start of the command line", compare("1 process", contestants, against, turns=15, clock=time.perf_counter))


if __name__ == "__main__":
    main()
