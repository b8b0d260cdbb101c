"""Times side by side and peaks of memory, so that every figure is a ratio within one run.

The machine may be shared: contestants take turns in one thread, what counts is the time the processor spent on them,
the minimum of several turns, and the spread is reported beside it.
"""

import csv
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = [
    "date",
    "benchmark",
    "size",
    "contestant",
    "seconds",
    "spread",
    "against",
    "ratio",
    "bound",
    "machine",
    "versions",
]


def take_turns(
    contestants: Mapping[str, Callable[[], object]], turns: int = 7, clock: Callable[[], float] = time.thread_time
) -> dict[str, tuple[float, float]]:
    """Seconds of each contestant: the minimum over interleaved turns, and the median over that minimum.

    Args:
        contestants: What is timed, by name.
        turns: How often, after one turn that warms up.
        clock: Seconds; by default those that the processor spent in this thread, and then torch has no other.
    """
    if clock is time.thread_time:
        torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, run in contestants.items():
            begin = clock()
            run()
            if turn:  # the first one warms up
                seconds[name].append(clock() - begin)
    return {name: (min(times), sorted(times)[len(times) // 2] / min(times)) for name, times in seconds.items()}


def limit(rows: int, cols: int, dim: int) -> Callable[[], object]:
    """What no dense exact method undercuts: three products of the size and one exp over the matrix."""
    a, r = torch.randn(rows, dim), torch.randn(cols, dim)
    scores = torch.randn(rows, cols)

    def run() -> None:
        with torch.no_grad():
            a @ r.T
            scores.exp()
            scores @ r
            scores.T @ a

    return run


def peak_mb(module: str, case: str, *arguments: object) -> float:
    """Peak memory in MB that a case of a module takes beyond its inputs and their gradients, in its own process."""
    code = (
        "import resource, sys; import torch; torch.set_num_threads(1)\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import {module}\n"
        f"{module}.step('warm', *{arguments!r})\n"
        f"inputs, run = {module}.case({case!r}, *{arguments!r})\n"
        "for x in inputs: x.grad = torch.full_like(x, 1e-9)\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "def high(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "before = high(); run(); print(high() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def record(benchmark: str, rows: list[dict[str, object]], threads: int | None = None) -> None:
    """Print a table and append it to `results.csv` with machine and versions.

    Args:
        benchmark: Its name.
        rows: What was measured.
        threads: How many were at work at once, where those are not torch's.
    """
    threads = torch.get_num_threads() if threads is None else threads
    date = datetime.now(UTC).date().isoformat()
    machine = f"{platform.machine()}, {threads} thread{'' if threads == 1 else 's'}"
    packages = "; ".join(
        f"{name} {_version(name)}" for name in ("tuplet", "torch", "pytorch-metric-learning", "gensim")
    )
    fresh = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        for row in rows:
            writer.writerow({"date": date, "benchmark": benchmark, "machine": machine, "versions": packages, **row})
    width = max(len(str(row["contestant"])) for row in rows)
    print(f"\n{benchmark}")
    for row in rows:
        bound = f"   bound {row['bound']}" if row.get("bound") else ""
        print(f"  {row['size']!s:>12}  {row['contestant']!s:<{width}}  {_figure(row)}{bound}", flush=True)


def _figure(row: Mapping[str, object]) -> str:
    figure = f"{row['ratio']} {'' if str(row['against']).startswith(('MB ', 'pictures ')) else 'x '}{row['against']}"
    if "seconds" not in row:
        return figure
    return f"{float(str(row['seconds'])) * 1e3:10.1f} ms (median {row['spread']} x)   {figure}"


def compare(
    size: str,
    contestants: Mapping[str, Callable[[], object]],
    against: list[tuple[str, str, str]],
    turns: int = 7,
    clock: Callable[[], float] = time.thread_time,
) -> list[dict[str, object]]:
    """Rows for `record`: times of all, and the ratios `against` = (contestant, other, bound)."""
    found = take_turns(contestants, turns, clock)
    rows: list[dict[str, object]] = []
    for name, other, bound in against:
        seconds, spread = found[name]
        ratio = round(seconds / found[other][0], 3)
        rows.append(
            {
                "size": size,
                "contestant": name,
                "seconds": round(seconds, 6),
                "spread": round(spread, 2),
                "against": other,
                "ratio": ratio,
                "bound": bound,
            }
        )
    return rows


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


__all__ = ["compare", "json", "limit", "peak_mb", "record", "resource", "take_turns"]
