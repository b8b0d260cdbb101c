"""The tables of `scale.md`: what was counted beside the model, and the model carried further."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import scale_model  # noqa: E402  # the model stands beside what it is measured with

UNITS = {"products": "multiply-adds", "wire": "bytes received", "memory": "bytes held"}
FAR = scale_model.Sizes(batch=65_536, dim=512, classes=100_000_000, bank=100_000_000, noise=4096, rate=0.001)
COUNT = 1024
SPEED, NETWORK = 100e12, 25e9
"""Multiply-adds and bytes a second that the last table divides by."""


def measured() -> str:
    """The largest error of the model for each case and quantity."""
    with (BENCHMARKS / "scale.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return "\n".join(_measured(rows))


def _measured(rows: list[dict[str, str]]) -> Iterator[str]:
    yield "| family | processes | quantity | counted in one process | model | error |"
    yield "| --- | ---: | --- | ---: | ---: | ---: |"
    for case in dict.fromkeys(row["case"] for row in rows):
        found = [row for row in rows if row["case"] == case]
        for what in dict.fromkeys(row["what"] for row in found):
            worst = max((row for row in found if row["what"] == what), key=lambda row: float(row["error"]))
            numbers = (f"{int(worst[key]):,}" for key in ("counted", "model"))
            error = f"{100 * float(worst['error']):.2f} %"
            yield f"| {case} | {worst['processes']} | {UNITS[what]} | {' | '.join(numbers)} | {error} |"


def carried() -> str:
    """The model for 1,024 processes and 100 million classes."""
    return "\n".join(_carried())


def _carried() -> Iterator[str]:
    yield "| family | multiply-adds | at 100 T/s | received | at 25 GB/s | held |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for case in scale_model.CASES:
        if case.startswith("index"):
            continue
        found = scale_model.cost(case, COUNT, FAR)
        cells = (
            _short(found.products, "T", 1e12),
            _time(found.products / SPEED),
            _short(found.wire, "GB", 1e9),
            _time(found.wire / NETWORK),
            _short(found.memory, "GB", 1e9),
        )
        yield f"| {case} | {' | '.join(cells)} |"


def _short(value: float, unit: str, size: float) -> str:
    return f"{value / size:,.3g} {unit}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"
