"""Runs the comparisons of `comparisons.toml` and writes docs/comparison.md: `make results ROW=compare-NAME`.

A comparison stays in `.cache/results/comparisons` and goes on where it stopped; what it found is kept beside this file.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetch import DATA, ROOT, fetch

from tuplet.app.cli.running import find_recipe
from tuplet.comparison import ComparisonResult, Folder, check_data, compare, concluded, entries_of, requested
from tuplet.comparison.folder import TrialRecord
from tuplet.comparison.results import EntryResult, PairResult, short
from tuplet.comparison.schedule import Record
from tuplet.recipes import Reader
from tuplet.recipes.imported import import_losses

HERE = Path(__file__).parent
PLAN = HERE / "comparisons.toml"
FOUND = HERE / "comparisons"
PLACE = ROOT / ".cache" / "results" / "comparisons"
PAGE = ROOT / "docs" / "comparison.md"

TOP = """<!-- Written by `make results ROW=compare-NAME`. -->

# Losses under equal conditions

Every loss has the same encoder, data, split, batches, number of steps, number of trials and seeds.
Settings are chosen on validation examples; the test examples are evaluated once, with the chosen settings.
[Comparing losses](guides/compare.md) says what is searched and how a pair is concluded.
P values count both the test examples and the seeds, and are corrected by Holm's method: the chance of any wrong
conclusion in a table is at most 5 % if all its losses are worth the same.
Losses with a library in brackets are that library's, trained in the same loop; their first trial has the defaults of
their constructors.
Budgets are small: a table says which loss is better after so many steps with so many trials, and no more.

## What "A Metric Learning Reality Check" looks like here

Musgrave, Belongie and Lim (2020) trained losses of fourteen years with one network and one search, and found that they
differ little, and that contrastive and triplet losses are near the newest.
"""
CLASSICS = ("contrastive", "triplet")


def planned() -> dict[str, dict[str, Any]]:
    """What there is to compare."""
    return tomllib.loads(PLAN.read_text(encoding="utf-8"))


def found() -> dict[str, ComparisonResult]:
    """What was compared, in the order of the plan."""
    return {name: read(name) for name in planned() if (FOUND / f"{name}.json").exists()}


def read(name: str) -> ComparisonResult:
    """What a comparison found."""
    return ComparisonResult.model_validate_json((FOUND / f"{name}.json").read_text(encoding="utf-8"))


def run(name: str, jobs: int = 1) -> None:
    """Carry out what is missing of a comparison, keep what it found, and write the page."""
    row, folder = planned()[name], PLACE / name
    for part in row.get("data", ()):
        fetch(part)
    cache = PLACE / ".cache"
    if (folder / "compare.toml").exists():
        held = Folder(folder)
        request = held.request()
        check_data(held, request, cache, trust=True)
    else:
        import_losses(row["losses"], trust=True)
        reader = Reader(cache)
        source = row["source"] if row["source"] == "glyphs" else str(DATA / row["source"])
        changes = row.get("set", [])
        recipes = [
            find_recipe(source, data=None, changes=[*changes, f'loss={{ name = "{loss}" }}'], reader=reader)
            for loss in row["losses"]
        ]
        entries = entries_of(recipes, by_loss=True, steps=row["steps"])
        request = requested(
            entries, trials=row["trials"], seeds=row["seeds"], minutes=0.0, reader=reader, device="cpu", trust=True
        )
        held = Folder.new(PLACE, name, request, entries)
    try:
        compare(held, request, cache=cache, jobs=jobs, trust=True, progress=say)
        result = concluded(held, request)
    finally:
        held.give_back()
    FOUND.mkdir(exist_ok=True)
    text = result.model_dump_json(indent=1) + "\n"
    (FOUND / f"{name}.json").write_text(text, encoding="utf-8")
    PAGE.write_text(page(planned(), found()), encoding="utf-8")


def say(record: Record, done: int, total: int) -> None:
    """One line for each finished training."""
    what = f"trial {record.number}" if isinstance(record, TrialRecord) else f"seed {record.seed}"
    print(f"{done} of {total}: {record.entry} {what} {record.value} {record.cpu_seconds} s", flush=True)


def page(plan: Mapping[str, Mapping[str, Any]], results: Mapping[str, ComparisonResult]) -> str:
    """The page: what the claim looks like, a section for each comparison, and what is not run yet."""
    parts = [TOP, *(claim(plan[name]["title"], one) for name, one in results.items()), ""]
    for name, result in results.items():
        parts += section(name, plan[name], result)
    missing = [name for name in plan if name not in results]
    if missing:
        parts.append("## Not run yet\n")
        parts += [
            f"- `{name}`: {plan[name]['title'].lower()}, {len(plan[name]['losses'])} losses, "
            f"{plan[name]['steps']:,} steps, {plan[name]['trials']} trials"
            for name in missing
        ]
        parts.append("\n`make results ROW=compare-NAME` runs one, and goes on where it stopped.\n")
    return "\n".join(parts)


def claim(title: str, result: ComparisonResult) -> str:
    """How large the differences are, and where the classics stand."""
    whole = [one for one in result.entries if one.value is not None]
    best, worst = whole[0], whole[-1]
    text = (
        f"- **{title}**: {result.decided} of {len(result.pairs)} pairs are decided; best {short(best.name)} "
        f"{best.value:.3f}, worst {short(worst.name)} {worst.value:.3f}."
    )
    for pair in result.pairs:
        if pair.first == best.name and pair.second in CLASSICS:
            text += f" {short(best.name)} against {pair.second}: {concise(pair)}."
    if best.name in CLASSICS:
        text += f" The best is {best.name} itself."
    return text


def concise(pair: PairResult) -> str:
    """Its conclusion and its difference."""
    return f"{pair.conclusion}, {pair.difference:.3f}\u00a0[{pair.low:.3f},\u00a0{pair.high:.3f}]"


def section(name: str, row: Mapping[str, Any], result: ComparisonResult) -> list[str]:
    """Heading, words, the table, and what is decided."""
    unit = "test classes" if result.unit == "classes" else "test examples of fixed classes"
    parts = [f"## {row['title']}\n", row["text"].strip()]
    raw = "" if result.raw is None else f" The raw input reaches {result.raw:.3f}."
    parts.append(
        f"{len(result.entries)} losses, {row['steps']:,} steps, {result.trials} trials, {row['seeds']} seeds; "
        f"{result.queries:,} queries, {result.units:,} {unit}.{raw}\n"
    )
    parts += [
        f"| loss | {result.measure} | each seed | better than | undecided against | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    parts += [line(one, result) for one in result.entries]
    parts.append("")
    needs = [(pair.needs_units or 0, pair) for pair in result.pairs if pair.conclusion == "undecided"]
    if needs:
        least = min(needs, key=lambda one: (one[1].needs_seeds or 0, one[0]))[1]
        parts.append(f"Nearest to a decision: {least.sentence}\n")
    parts.append(f"Row `{name}`; seconds of the processor for one training; {result.machine}.\n")
    return parts


def line(one: EntryResult, result: ComparisonResult) -> str:
    """One loss: its value with the interval over examples and seeds, and how its pairs end."""
    if one.value is None:
        return f"| {short(one.name)} | not finite | | | | {one.seconds:.1f} |"
    seeds = " ".join("–" if seed.value is None else f"{seed.value:.3f}" for seed in one.seeds)
    mine = [pair for pair in result.pairs if one.name in (pair.first, pair.second)]
    better = sum(pair.conclusion == "better" and pair.first == one.name for pair in mine)
    open_ = sum(pair.conclusion == "undecided" for pair in mine)
    value = f"**{one.value:.3f}**\u00a0[{one.low:.3f},\u00a0{one.high:.3f}]"
    return f"| {short(one.name)} | {value} | {seeds} | {better} | {open_} | {one.seconds:.1f} |"
