"""The table of what has been shown of every loss: from the record of the tests, the benchmarks, presets and pages.

A cell says yes only where `tests/shown.json` names a test that passed and still stands there. Where nothing is shown it
says why, in words from `WHY`; where there are none either it says "not shown".
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import measured

import tuplet
from tuplet.recipes.load import preset_names, read_document

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RECORD, BENCHMARKS = ROOT / "tests" / "shown.json", ROOT / "benchmarks"
LIBRARY = "pytorch-metric-learning"
WHAT = {
    "oracle": "value and gradient equal those of plain loops in float64, written from the paper, for random inputs",
    "streamed": "no tensor of a call is as large as the matrix of 2,048 × 2,048 scores",
    "tiles": "tiles of 1, 7 or 100 entries change neither value nor gradient",
    "processes": "values, gradients, weights and memory of two and three processes are those of one, to 1e-12",
    "one read": "on tiles a call waits for its device once",
    "no read": "without checks it never waits",
    "replayed": "a call that is recorded once and replayed is the call, for other inputs of the same shapes",
}
"""What a test shows, beside equality with other libraries, which are named as they are."""
INTRODUCTION = """# What is shown of each loss

Every "yes" is a test that passed; `make shown` runs them again, and writes down which.
A cell without one says why.

| column | what its tests show |
| --- | --- |
"""
COLUMNS = {
    "oracle": "{oracle}",
    "equal to": "value and gradient are those of the library named, to 1e-9 in float64 unless a test says why less; "
    "*formula of* is a library that is not installed beside tuplet",
    "streamed": "{streamed}; {tiles}",
    "processes": "{processes}",
    "host reads": "{one read}, in brackets as counted at {rows:,} rows; {no read}",
    "replayed": "{replayed}",
    "speed": "times as fast as the library, or the dense form, that is named: processor time on a CPU, or {card}",
    "preset": "settings of a paper, by name",
}
TESTS = """## The tests

| what | tests |
| --- | --- |
"""
NOT_SHOWN = "not shown"
REASONS: dict[str, dict[str, str]] = {
    "equal to": {
        "no library with a loss to call has it": "adaface centroid_triplet cpc curricularface elasticface "
        "instance_discrimination log_ratio magface uniface",
        "only the value is that of pytorch-metric-learning, where weights have a gradient too": "dynamic_soft_margin",
        "gensim trains by it, and has no loss to call": "nce",
        "lightly adds 1e-5 to variances": "barlow_twins",
        "lightly compares pairs in both directions": "decoupled_contrastive",
    },
    "tiles": {
        "scores are sorted in blocks": "angle cosent",
        "features are compared, and rows with none": "barlow_twins vicreg",
    },
    "no read": {"how many positives an anchor has decides a shape": "triplet"},
    "replayed": {
        "what it keeps or is given differs from call to call": "a_softmax adaface curricularface "
        "dynamic_soft_margin elasticface instance_discrimination nce",
    },
    "preset": {
        "a term beside another loss in its paper": "intra_pair_variance threshold_consistent_margin",
        "`arcface-2019` and `cosface-2018` are settings of it": "combined_margin",
    },
}
"""Why something is not shown, by column and words: names of losses, separated by blanks."""


def page(names: Sequence[str], shared_pages: dict[str, str]) -> str:
    """The whole page.

    Args:
        names: Of the losses.
        shared_pages: Pages of losses that have none of their own name.

    Raises:
        SystemExit: If the record names a test that is gone.
    """
    shown = _shown()
    card = json.loads((BENCHMARKS / "accelerator.json").read_text())
    rows = max(json.loads((BENCHMARKS / "counts.json").read_text())["rows"])
    columns = [f"| {name} | {text.format(**WHAT, rows=rows, card=card['card'])} |" for name, text in COLUMNS.items()]
    parts = [INTRODUCTION + "\n".join([*columns, ""]), *_table(names, shown, shared_pages), ""]
    parts += [TESTS + "\n".join(_tests(shown)), ""]
    return "\n".join(parts)


def unexplained(names: Sequence[str], shared_pages: dict[str, str]) -> list[str]:
    """Cells that neither a test nor a reason speaks of."""
    rows = _table(names, _shown(), shared_pages)
    return [row for row in rows if NOT_SHOWN in row]


def _shown() -> dict[str, dict[str, list[str]]]:
    """The record, if all of its tests are still there and say what they show."""
    shown: dict[str, dict[str, list[str]]] = json.loads(RECORD.read_text(encoding="utf-8"))
    for what, losses in shown.items():
        for test in sorted({test for tests in losses.values() for test in tests}):
            file, _, name = test.partition("::")
            if f'shows("{what}"' not in _source(file) or f"\ndef {name}(" not in _source(file):
                raise SystemExit(f"{RECORD.name} has {test}, which does not show {what!r} any more. Run `make shown`.")
    return shown


@cache
def _source(file: str) -> str:
    path = ROOT / file
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _table(names: Sequence[str], shown: dict[str, dict[str, list[str]]], shared_pages: dict[str, str]) -> Iterator[str]:
    libraries = [what for what in shown if what not in WHAT]
    speeds, presets, counts = _speeds(), _presets(), _counts()
    heads = ("loss", "oracle", "equal to", "streamed", "processes", "host reads", "replayed", "speed", "preset")
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for name in names:
        found = {what for what, losses in shown.items() if name in losses}
        page_of = shared_pages.get(name, name)
        assert (DOCS / "losses" / f"{page_of}.md").exists(), f"{name} has no page"  # noqa: S101

        def cell(what: str, words: str = "yes") -> str:
            return words if what in found else _why(what, name)  # noqa: B023  # called in this turn

        equal = ", ".join(library for library in libraries if library in found) or _why("equal to", name)
        streamed = cell("streamed", "yes" if "tiles" in found else f"yes; no tiles: {_why('tiles', name, '')}")
        reads = cell("one read", "1") + (f" ({counts[name]})" if name in counts else "")
        reads += "; 0 unchecked" if "no read" in found else f"; 1 unchecked: {_why('no read', name, '')}"
        preset = ", ".join(f"`{preset}`" for preset in presets.get(name, [])) or _why("preset", name)
        cells = (cell("oracle"), equal, streamed, cell("processes"), reads, cell("replayed"))
        yield f"| {' | '.join((f'[`{name}`]({page_of}.md)', *cells, _speed(speeds, name), preset))} |"


def _why(what: str, name: str, no: str = "no: ") -> str:
    """Why something is not shown of a loss, in words."""
    found = [words for words, losses in REASONS.get(what, {}).items() if name in losses.split()]
    return f"{no}{found[0]}" if found else NOT_SHOWN


def _tests(shown: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    for what, losses in shown.items():
        tests = sorted({test for each in losses.values() for test in each})
        named = "<br>".join(
            f"`{file.removeprefix('tests/')}`: {_sentence(name)}"
            for file, _, name in (x.partition("::") for x in tests)
        )
        yield f"| {what if what in WHAT else f'equal to {what}'} | {named} |"


def _sentence(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _presets() -> dict[str, list[str]]:
    """Names of presets of papers, by loss."""
    found: dict[str, list[str]] = {}
    for preset in preset_names():
        if re.search(r"-(19|20)\d\d$", preset):
            found.setdefault(read_document(preset)["loss"]["name"], []).append(preset)
    return found


def _counts() -> dict[str, int]:
    """Host reads of a call at full size; of several forms the most."""
    found: dict[str, int] = {}
    for one in json.loads((BENCHMARKS / "counts.json").read_text())["losses"]:
        name = one["loss"].partition(" ")[0]
        found[name] = max(found.get(name, 0), *(size["reads"] for size in one["counts"].values()))
    return found


def _speeds() -> dict[str, list[str]]:
    """How much faster than the library, or than the dense form; of several sizes the largest."""
    found: dict[str, list[str]] = {}
    latest: dict[str, tuple[str, str]] = {}
    with (BENCHMARKS / "results.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["contestant"].startswith(LIBRARY) and row["ratio"]:
                latest[row["against"]] = row["ratio"], row["size"]
    for against, (ratio, size) in latest.items():
        words = f"{measured.times(float(ratio))} × {LIBRARY} ({size}, CPU)"
        found.setdefault(against.partition(" ")[0], []).append(words)
    rows: dict[str, dict[str, Any]] = {}
    for row in json.loads((BENCHMARKS / "accelerator.json").read_text())["rows"]:
        name = row["row"].removeprefix("every ").partition(" ")[0]
        if (
            any("ms" in row["contestants"].get(one, {}) for one in (LIBRARY, "dense"))
            and name in tuplet.losses.registry
        ):
            rows.setdefault(name, row)
    for name, row in rows.items():
        beside = LIBRARY if "ms" in row["contestants"].get(LIBRARY, {}) else "dense"
        ratio = row["contestants"][beside]["ms"] / row["contestants"]["tuplet"]["ms"]
        found.setdefault(name, []).append(f"{measured.times(ratio)} × {beside} ({row['size']}, accelerator)")
    return found


def _speed(speeds: dict[str, list[str]], name: str) -> str:
    return "<br>".join(speeds.get(name, [])) or "not measured"
