"""All runs of a folder: how far they came, what they reached, where their recipes differ."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuplet.app.measures import main_measure
from tuplet.errors import DataError

_NOTHING = {"measure": None, "raw": None, "model": None}


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """One row per run, the best last.

    Returns:
        `run`, `state` ("damaged" where a file of it cannot be read), `measure` with its `raw` and `model` values (None
        before the end), and `differs`: settings that not all runs share.

    Raises:
        DataError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", hint="Start a run: tuplet demo", reference="no-runs")
    recipes = {path.parent: _settings(path) for path in sorted(folder.glob("*/recipe.toml"))}
    keys = sorted({key for recipe in recipes.values() for key in recipe} - {"name"})
    differing = [key for key in keys if len({str(recipe.get(key)) for recipe in recipes.values()}) > 1]
    rows = [
        {"run": str(run), **_told(run, recipe)}
        | {"differs": " ".join(f"{key}={recipe[key]}" for key in differing if key in recipe)}
        for run, recipe in recipes.items()
    ]
    return sorted(rows, key=lambda row: (row["model"] is not None, row["measure"] or "", row["model"] or 0.0))


def _settings(path: Path) -> dict[str, Any]:
    try:
        return dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))
    except ValueError:  # bad TOML and bad UTF-8
        return {}


def _told(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The outcome of a run; a damaged one does not hide the others."""
    try:
        return _outcome(run, recipe) if recipe else {"state": "damaged", **_NOTHING}
    except ValueError:  # bad JSON and bad UTF-8
        return {"state": "damaged", **_NOTHING}


def _outcome(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    verdict = run / "evaluation.json"
    if verdict.exists():
        line = main_measure(json.loads(verdict.read_text(encoding="utf-8")))
        if line is None:
            return {"state": "done", **_NOTHING}
        raw = None if line.raw is None else line.raw.value
        return {"state": "done", "measure": line.name, "raw": raw, "model": line.model.value}
    diary = run / "events.jsonl"
    lines = diary.read_bytes().split(b"\n")[:-1] if diary.exists() else []  # the last one may be cut short
    events = [json.loads(line) for line in lines]
    ended = any(event["kind"] == "end" for event in events)
    reached = max((event["step"] for event in events if event["kind"] == "checkpoint"), default=0)
    return {"state": "done" if ended else f"step {reached} of {recipe['train.steps']}", **_NOTHING}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
