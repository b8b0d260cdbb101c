"""What was measured with each loss, from results.csv: tables for the pages of losses and for the guide that chooses."""

import csv
import tomllib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from tuplet.recipes import load_recipe

RESULTS = Path(__file__).parents[1] / "results"


class Measured(NamedTuple):
    """Mean over seeds of one measure, after one training."""

    row: str
    measure: str
    recipe: str
    data: str  # where one recipe trains on several sets
    loss: str
    value: float
    beside: float | None

    @property
    def task(self) -> tuple[str, str, str, str]:
        """What has to be the same for two values to be compared; recipes are named after their data."""
        return self.row, self.measure, self.recipe.partition("-")[0], self.data


def measured() -> list[Measured]:
    """Every mean of the table of results that a recipe of tuplet reached."""
    lines: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with (RESULTS / "results.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            lines.setdefault((line["row"], line["measure"], line["training"]), []).append(line)
    found = []
    for (row, measure, training), seeds in lines.items():
        recipe, _, data = training.partition(" ")
        path = RESULTS / "recipes" / f"{recipe}.toml"
        if path.exists():
            raw = [float(seed["beside"]) for seed in seeds if seed["beside"]]
            value = fmean(float(seed["value"]) for seed in seeds)
            trained = load_recipe(path)
            loss = getattr(trained.loss, "objective", trained.loss.name)
            found.append(Measured(row, measure, recipe, data, loss, value, fmean(raw) if raw else None))
    return found


def titles() -> dict[str, str]:
    """What each row of the results trains on."""
    rows = tomllib.loads((RESULTS / "rows.toml").read_text(encoding="utf-8"))
    return {name: row["title"] for name, row in rows.items()}


def table(names: Sequence[str]) -> str:
    """The trainings of these losses: a line for each, with the place among the losses of its row."""
    everything, title = measured(), titles()
    mine = [one for one in everything if one.loss in names and one.row != "demo"]
    if not mine:
        return "None of the [results](../results.md) was trained with it.\n"
    rows = ["| measured | with | mean of three seeds |", "| --- | --- | --- |"]
    for row, recipe in dict.fromkeys((one.row, one.recipe) for one in mine):
        these = [one for one in mine if (one.row, one.recipe) == (row, recipe)]
        rows.append(f"| {title[row]} | `{recipe}` | {_values(these, everything)} |")
    return "\n".join(rows) + "\n\nIntervals and conditions are in the [results](../results.md).\n"


def _values(these: Sequence[Measured], everything: Sequence[Measured]) -> str:
    if these[0].data:
        values = [one.value for one in these]
        above = sum(one.beside is not None and one.value > one.beside for one in these)
        measure = f"{these[0].measure} {min(values):.3f} to {max(values):.3f}"
        return f"{measure}, above the baseline on {above} of {len(these)} sets"
    return "<br>".join(_value(one, everything) for one in these)


def _value(one: Measured, everything: Sequence[Measured]) -> str:
    others = [other for other in everything if other.task == one.task]
    notes = []
    if len({other.loss for other in others}) > 1:
        notes.append(f"place {sum(other.value > one.value for other in others) + 1} of {len(others)}")
    if one.beside is not None:
        notes.append(f"baseline {one.beside:.3f}")
    return f"{one.measure} **{one.value:.3f}**" + (f" ({', '.join(notes)})" if notes else "")


def ranking() -> str:
    """For the guide: the losses of every row that compares some, best first."""
    everything, title = measured(), titles()
    rows = ["| on | measure | losses, best first |", "| --- | --- | --- |"]
    for task in dict.fromkeys(one.task for one in everything):
        these = [one for one in everything if one.task == task]
        row, measure, source, data = task
        if len({one.loss for one in these}) < 2 or data:
            continue
        ordered = sorted(these, key=lambda one: -one.value)
        losses = ", ".join(f"`{one.loss}` {one.value:.3f}" for one in ordered)
        rows.append(f"| {title[row]}: {source} | {measure} | {losses} |")
    return "\n".join(rows) + "\n"
