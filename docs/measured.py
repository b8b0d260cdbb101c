"""The page of benchmarks, drawn from `benchmarks/results.csv`."""

import csv
import operator
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results.csv"
INTRODUCTION = """# Benchmarks

`make bench` measures again and appends to `benchmarks/results.csv`; this page shows the latest row of each kind.
Every figure is a ratio within one run.
Methods are timed alternately on one thread; we report the minimum of several runs, and *spread* = median / minimum.
Times are CPU time, so other load on the machine matters little; word vectors, where gensim uses two threads, and
processes are measured in wall-clock time.
*Dense cost* is three matrix products of that size and one exp over the whole score matrix, the cost of value and
gradient if no entry is skipped and no symmetry used; a loss that does either may be below it.
Losses are compared with the same loss of pytorch-metric-learning, word vectors with gensim.
Memory is the peak of the process beyond the named tensors.
*Bound* is the limit that the project promises; a figure beyond it is marked as missed.
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
        sources = dict.fromkeys(f"{row['date']}, {row['machine']}: {row['versions']}." for row in found)
        parts += [*sources, ""]
    return "\n".join(parts).rstrip() + "\n"


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    yield "| size | method | time | spread | ratio or memory | bound | |"
    yield "| --- | --- | ---: | ---: | ---: | --- | --- |"
    for row in rows:
        time = _time(float(row["seconds"])) if row["seconds"] else ""
        ratio = float(row["ratio"])
        figure = f"{ratio:,.3g} × {_named(row['against'])}" if _is_ratio(row) else f"{ratio:,.0f} {row['against']}"
        bound = row["bound"].replace("<=", "≤").replace(">=", "≥")
        cells = (row["size"], _named(row["contestant"]), time, row["spread"], figure, bound, _outcome_of_bound(row))
        yield f"| {' | '.join(cells)} |"


def _named(method: str) -> str:
    """The name on the page; the stored rows call the dense cost a limit."""
    return method.replace("limit", "dense cost")


def _is_ratio(row: dict[str, str]) -> bool:
    return not row["against"].startswith(("MB ", "pictures "))


def _outcome_of_bound(row: dict[str, str]) -> str:
    if not row["bound"]:
        return ""
    sign, bound, *unit = row["bound"].split()
    found = float(row["seconds"]) * 1e3 if unit == ["ms"] else float(row["ratio"])
    return "met" if COMPARISONS[sign](found, float(bound)) else "**missed**"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"
