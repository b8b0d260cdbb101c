"""The page of benchmarks, drawn from `benchmarks/results.csv`."""

import csv
import operator
from collections.abc import Iterator
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results.csv"
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
Where a library takes less than 1 × it is the faster one: of 512 rows the whole matrix of scores fits in the caches,
and what a call costs beside it counts.
"""
SEARCH = """## Search

`benchmarks/bench_search.py` builds each index in a process of its own and asks it 200 queries in another, ten
neighbours each. *One* is a query asked alone, *batch* one among 200 asked at once: processor time, all threads and
those of the PostgreSQL server together, with the time on the clock in brackets where it was noted. *Build* is on the
clock. Bounds are on processor time: other work on the machine shows in the time on the clock. *Recall* is the share of
the exact neighbours that is found, what is as near as the tenth included; back ends that look at a part are tuned to
0.98 on items of theirs.

*Memory* is what opening and searching adds, pages of mapped files and of the PostgreSQL server included.
*Glyphs* are the pixels of the built-in data set as 64 principal components, *all-glyphs* those with the look-alikes
and copies that the data set leaves out, *clusters* are rows of 64 numbers around 5,000 centres.
faiss is a baseline library.
"""
LOAD = """## A server under load

`benchmarks/bench_load.py`: clients that search without a pause, a third each by picture, item and vector, over a run
on glyphs; server and clients share the machine. Times are on the clock.
*Memory* is that of the server before, and after each quarter of the searches; *errors* are answers that were no 200.
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
    parts += [*_search(), *_load()]
    return "\n".join(parts).rstrip() + "\n"


def times(ratio: float) -> str:
    """A ratio in three digits."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def _read(name: str) -> list[dict[str, str]]:
    path = BENCHMARKS / name
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _search() -> Iterator[str]:
    """The latest row of each contestant on each collection."""
    latest = {(row["collection"], row["items"], row["contestant"]): row for row in _read("search.csv")}
    if not latest:
        return
    yield SEARCH
    yield "| items | index | threads | build | one | batch | recall | size | memory | bound | |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"
    for row in sorted(latest.values(), key=lambda row: (-int(row["items"] == "1000000"), row["collection"])):
        bound = f"≤ {float(row['bound_ms']):g} ms" if row["bound_ms"] else ""
        outcome = "" if not bound else "met" if float(row["one_ms"]) <= float(row["bound_ms"]) else "**missed**"
        cells = (
            f"{int(row['items']):,} {row['collection']}",
            row["contestant"],
            row["threads"],
            f"{float(row['build_s']):,.0f} s",
            *(_query(row, how) for how in ("one", "batch")),
            f"{float(row['recall']):.3f}",
            f"{float(row['mb_disk']):,.0f} MB",
            f"{float(row['mb_memory']):,.0f} MB",
            bound,
            outcome,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from dict.fromkeys(f"{row['date']}, {row['machine']}: {row['versions']}." for row in latest.values())
    yield ""


def _query(row: dict[str, str], how: str) -> str:
    """Processor time of a query, and that on the clock where it was noted."""
    clock = row[f"{how}_clock_ms"]
    return f"{float(row[f'{how}_ms']):,.2f} ms" + (f" ({float(clock):,.2f})" if clock else "")


def _load() -> Iterator[str]:
    rows = _read("load.csv")
    if not rows:
        return
    row = rows[-1]
    yield LOAD
    yield "| searches | clients | a second | median | 90 % | 99 % | 99.9 % | errors | memory |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    times = " | ".join(f"{float(row[f'p{share}_ms']):,.0f} ms" for share in ("50", "90", "99", "99.9"))
    memory = ", ".join(f"{float(one):,.0f} MB" for one in (row["mb_before"], *row["mb_after_quarters"].split("; ")))
    errors = row["errors"] + (f" ({row['statuses']})" if row["statuses"] else "")
    head = f"{int(row['searches']):,} | {row['clients']} | {float(row['per_second']):,.0f}"
    yield f"| {head} | {times} | {errors} | {memory} |"
    yield ""
    facts = [row["date"], f"{int(row['items']):,} items", *([row["machine"]] if row["machine"] else [])]
    if row["others"]:
        facts.append(f"{float(row['others']):.0%} of the processor time taken by other processes")
    yield f"{', '.join(facts)}."
    yield ""


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    yield "| size | method | time | spread | ratio or memory | bound | |"
    yield "| --- | --- | ---: | ---: | ---: | --- | --- |"
    for row in rows:
        time = _time(float(row["seconds"])) if row["seconds"] else ""
        ratio = float(row["ratio"])
        figure = f"{times(ratio)} × {_named(row['against'])}" if _is_ratio(row) else f"{ratio:,.0f} {row['against']}"
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
