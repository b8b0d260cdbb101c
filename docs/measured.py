"""The page of benchmarks, drawn from `benchmarks/results.csv`."""

import csv
import operator
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results.csv"
INTRODUCTION = """# Benchmarks

`make bench` measures again and appends to `benchmarks/results.csv`; this page shows the latest row of each kind.
Every figure is a ratio within one run.
Contestants take turns in one thread, the least of several times counts, and *spread* is the median over it.
Time is what the processor spent, so that other work on the machine counts little; for words, whose peer has two
threads, and for processes it is the clock's.
*Dense cost* is that of three matrix products of the size and one exp over the whole matrix, which value and gradient
take if no entry is skipped and no symmetry used; a loss that does either may stay below it.
A peer is the loss of the same kind in pytorch-metric-learning; words are compared with gensim.
Memory is the peak of a process beyond what is named.
*Bound* is what the project promises; a figure beyond it is marked as missed.
Embeddings have 128 dimensions, classes four examples.
"""
COMPARISONS = {"<=": operator.le, ">=": operator.ge}


def page() -> str:
    """A table for each benchmark, in the order in which they were first measured."""
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    latest = {tuple(row[key] for key in ("benchmark", "size", "contestant", "against")): row for row in rows}
    parts = [INTRODUCTION]
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        found = [row for row in latest.values() if row["benchmark"] == benchmark]
        title = _named(benchmark)
        parts += [f"## {title[0].upper()}{title[1:]}\n", *_table(found), ""]
        told = dict.fromkeys(f"{row['date']}, {row['machine']}: {row['versions']}." for row in found)
        parts += [*told, ""]
    return "\n".join(parts).rstrip() + "\n"


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    yield "| size | what | time | spread | figure | bound | |"
    yield "| --- | --- | ---: | ---: | ---: | --- | --- |"
    for row in rows:
        time = _time(float(row["seconds"])) if row["seconds"] else ""
        ratio = float(row["ratio"])
        figure = f"{ratio:,.3g} × {_named(row['against'])}" if _is_ratio(row) else f"{ratio:,.0f} {row['against']}"
        bound = row["bound"].replace("<=", "≤").replace(">=", "≥")
        cells = (row["size"], row["contestant"], time, row["spread"], figure, bound, _verdict(row))
        yield f"| {' | '.join(cells)} |"


def _named(contestant: str) -> str:
    """The name on the page; the rows measured so far call the dense cost a limit."""
    return contestant.replace("limit", "dense cost")


def _is_ratio(row: dict[str, str]) -> bool:
    return not row["against"].startswith("MB ")


def _verdict(row: dict[str, str]) -> str:
    if not row["bound"]:
        return ""
    sign, bound, *unit = row["bound"].split()
    found = float(row["seconds"]) * 1e3 if unit == ["ms"] else float(row["ratio"])
    return "held" if COMPARISONS[sign](found, float(bound)) else "**missed**"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"
