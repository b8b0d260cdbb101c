"""The part of the page of benchmarks about accelerators, drawn from what `benchmarks/bench_gpu.py` wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TABLE, COUNTS = BENCHMARKS / "accelerator.json", BENCHMARKS / "counts.json"
INTRODUCTION = """## On an accelerator

`benchmarks/bench_gpu.py` measures value and gradient on one card, in four minutes at most, from a checkout with
`PYTHONPATH=src` where there are torch and Triton and nothing else.

Each row has tuplet, the dense form run eagerly and compiled, pytorch-metric-learning if it is installed, and the limit:
so many cuBLAS products of the size as the loss needs (three; two for a hinge over one set, one for batch-hard) and one
exp over every entry.

For each it takes milliseconds (the least of interleaved turns, by CUDA events, with the spread), memory beyond inputs
and gradients, seconds that the first call takes for compiling, and relative errors of value and gradient against
float64; for tuplet also values that the host reads back and operators.
Each row has a bound and a target, and says whether tuplet is within the target, within the bound, or missed both, and
whether a dense form or pytorch-metric-learning is faster there.
"""
NOTHING = "No card has run it yet, so nothing is claimed here about time or memory on an accelerator.\n"
EARLIER = """Rows with † were measured the same day one state of the engine earlier: since then masks are computed again
in the place of being stored, calls of up to 2²⁸ pairs are replayed as graphs, and class heads project their gradient
once, at the end. No row knows yet that noise is drawn on the card and that lists of rows are scored without copies;
the section below counts host reads as they are now. The script measures all rows anew where there is a card.
"""
COUNTED = """### Host reads and operators

Counted without an accelerator: the same passes on a CPU, in the tiles of an accelerator, not compiled; one value and
gradient of {sizes} rows of 128 dimensions, four examples of a class, torch {torch}.
The third step is counted: what a loss makes, or reads, once and keeps is no part of it.

A host read waits on an accelerator until everything launched before it is done; the bound is {reads} a call.
Operators are what is dispatched without a compiler; those that launch a kernel, all but views and room for results,
take 5 to 10 microseconds each there, and the bound is {launches} of them at {least} rows.
More rows take more only where they no longer fit into one tile, or what is computed for them no longer stays for the
gradient.
Compiled tile code is one or a few kernels for many operators, and calls that come again are replayed as one graph.
`python benchmarks/bench_gpu.py --counts` counts again.
"""


def section() -> str:
    """Both tables, as far as they were measured."""
    parts = [INTRODUCTION]
    if TABLE.exists():
        report = json.loads(TABLE.read_text())
        parts += [*_table(report["rows"]), ""]
        parts += [f"{report['date']}, {report['card']}: torch {report['torch']}, Triton {report['triton']}.\n"]
        parts += [EARLIER] if any(row.get("earlier") for row in report["rows"]) else []
    else:
        parts += [NOTHING]
    if COUNTS.exists():
        counts = json.loads(COUNTS.read_text())
        sizes = [f"{rows:,}" for rows in counts["rows"]]
        said = {"sizes": " and ".join(sizes), "least": sizes[0], "torch": counts["torch"]} | counts["bounds"]
        parts += [COUNTED.format(**said), *_counts(counts), ""]
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| what | size | tuplet | limit | dense | compiled | library | MB | error | promise | faster there |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"
    for row in rows:
        found = row["contestants"]
        times = [
            _time(found.get(name, {}))
            for name in ("tuplet", "limit", "dense", "dense, compiled", "pytorch-metric-learning")
        ]
        own = found.get("tuplet", {})
        memory = "" if own.get("mb") is None else f"{own['mb']:,.0f}"
        errors = [own[key] for key in ("value_error", "gradient_error") if own.get(key) is not None]
        error = f"{max(errors):.0e}" if errors else ""
        said = "; ".join(map(_promise, row["promises"])) or row.get("note", "")
        name = f"{row['row']} †" if row.get("earlier") else row["row"]
        yield f"| {' | '.join((name, row['size'], *times, memory, error, said, ', '.join(row['faster'])))} |"


def _time(own: dict[str, Any]) -> str:
    return f"{own['ms']:,.2f} ms (x {own['spread']:.2f})" if "ms" in own else own.get("note", "")


def _promise(one: dict[str, Any]) -> str:
    outcome = f"**{one['outcome']}**" if one["outcome"] == "missed" else one["outcome"]
    found = "" if one["found"] is None else f" {one['found']:.3g}"
    limits = [
        f"{word} {one[key]:g}" for word, key in (("bound", "bound"), ("target", "target")) if one[key] is not None
    ]
    return f"{one['what'].replace('x ', '× ')}{found} ({', '.join(limits)}): {outcome}"


def _counts(counts: dict[str, Any]) -> Iterator[str]:
    """The bounds hold at the first size."""
    heads = [f"{what}, {rows:,} rows" for rows in counts["rows"] for what in ("operators", "launched")]
    yield f"| {' | '.join(('loss', 'host reads', *heads, 'bounds'))} |"
    yield f"| --- | {' | '.join(['---:'] * (1 + len(heads)))} | --- |"
    bounds = counts["bounds"]
    for one in counts["losses"]:
        sizes = [one["counts"][str(rows)] for rows in counts["rows"]]
        reads = max(size["reads"] for size in sizes)
        met = reads <= bounds["reads"] and sizes[0]["launches"] <= bounds["launches"]
        numbers = [f"{size[key]:,}" for size in sizes for key in ("operators", "launches")]
        yield f"| {' | '.join((one['loss'], str(reads), *numbers, 'met' if met else '**missed**'))} |"
