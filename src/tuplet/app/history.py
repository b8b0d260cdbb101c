"""All runs of a folder: how far they came, what they reached, where their recipes differ."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuplet.app.measures import main_measure
from tuplet.errors import DataError
from tuplet.storage import read_json

_FIRST = ("data.source", "loss.name")
_NOTHING = {"measure": None, "raw": None, "model": None}


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """One row per run, the best last.

    Returns:
        `run`, `state` ("damaged" where a file of it cannot be read, "unknown format" where another version of tuplet
        wrote it), `measure` with its `raw` and `model` values (None before the end), and `differs`: the data and the
        loss, where not all runs share them; then the settings in which a run differs from others that read the same
        data and name the same components.

    Raises:
        DataError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", hint="Start a run: tuplet demo", reference="no-runs")
    recipes = {path.parent: _settings(path) for path in sorted(folder.glob("*/recipe.toml"))}
    known = [recipe for recipe in recipes.values() if recipe]
    rows = [
        {"run": str(run), **_told(run, recipe), "differs": _differences(recipe, known)}
        for run, recipe in recipes.items()
    ]
    return sorted(rows, key=lambda row: (row["model"] is not None, row["measure"] or "", row["model"] or 0.0))


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))
    except ValueError:  # bad TOML and bad UTF-8
        return {}
    source = settings.get("data.source", "")
    if "/" in source:  # a path, which starts in the folder of the run: shown as seen from here
        settings["data.source"] = Path(os.path.relpath(path.parent.resolve() / source)).as_posix()
    return settings


def _differences(recipe: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> str:
    """Settings that tell a run from those it can be compared with."""
    keys = [key for key in sorted(recipe) if key not in ("name", *_FIRST)]
    shown = [key for key in _FIRST if any(other.get(key) != recipe.get(key) for other in all_of_them)]
    alike = [other for other in all_of_them if other.get("data.source") == recipe.get("data.source")]
    for key in keys:
        names = [f"{table}.name" for table in _tables_around(key)]
        peers = [other for other in alike if all(other.get(name) == recipe.get(name) for name in names)]
        if any(other.get(key) != recipe[key] for other in peers):
            shown.append(key)
    return " ".join(f"{key}={recipe[key]}" for key in shown if key in recipe)


def _tables_around(key: str) -> list[str]:
    """The tables whose components say what a setting means: not that of the name itself."""
    parts = key.split(".")
    count = len(parts) - (parts[-1] == "name")
    return [".".join(parts[:end]) for end in range(1, count)]


def _told(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The outcome of a run; a damaged one does not hide the others."""
    try:
        return _outcome(run, recipe) if recipe else {"state": "damaged", **_NOTHING}
    except DataError as error:
        return {"state": "unknown format" if error.reference == "unknown-format" else "damaged", **_NOTHING}
    except (ValueError, KeyError, TypeError):  # a diary with bad JSON, bad UTF-8, or lines that are no events
        return {"state": "damaged", **_NOTHING}


def _outcome(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    verdict = run / "evaluation.json"
    if verdict.exists():
        line = main_measure(read_json(verdict, version=1, error=DataError, remedy=""))
        if line is None:
            return {"state": "done", **_NOTHING}
        raw = None if line.raw is None else line.raw.value
        return {"state": "done", "measure": line.name, "raw": raw, "model": line.model.value}
    diary = run / "events.jsonl"
    lines = diary.read_bytes().split(b"\n")[:-1] if diary.exists() else []  # the last one may be cut short
    events = [json.loads(line) for line in lines]
    if events and events[-1]["kind"] == "diverged":
        return {"state": f"diverged at step {events[-1]['step']}", **_NOTHING}
    ended = any(event["kind"] == "end" for event in events)
    reached = max((event["step"] for event in events if event["kind"] == "checkpoint"), default=0)
    return {"state": "done" if ended else f"step {reached} of {recipe['train.steps']}", **_NOTHING}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
