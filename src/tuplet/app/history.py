"""All runs of a folder: how far they came, what they reached, where their recipes differ."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuplet.app.metrics import primary_of
from tuplet.errors import DataError, UnknownFormatError
from tuplet.results import FILE, Evaluation
from tuplet.storage import dotted, read_bytes

_FIRST = ("data.source", "loss.name")
_NOTHING = {"measure": None, "raw": None, "model": None}


def recipe_of(run: Path) -> Path:
    """The recipe in the folder of a run.

    Raises:
        DataError: If there is none.
    """
    if not (run / "recipe.toml").is_file():
        raise DataError(
            f"{run} is not the folder of a run: it has no recipe.toml.",
            hint="List the runs there are: tuplet runs",
            reference="no-run",
        )
    return run / "recipe.toml"


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
    recipes = {path.parent: _settings(path) for path in sorted(_recipes(folder))}
    known = [recipe for recipe in recipes.values() if recipe]
    rows = [
        {"run": str(run), **_results(run, recipe), "differs": _differences(recipe, known)}
        for run, recipe in recipes.items()
    ]
    return sorted(rows, key=lambda row: (row["model"] is not None, row["measure"] or "", row["model"] or 0.0))


def _recipes(folder: Path) -> Iterator[Path]:
    """That of each run; of a folder that cannot be read, where it would be."""
    for run in folder.iterdir():
        try:
            is_run = run.is_dir() and "recipe.toml" in {entry.name for entry in run.iterdir()}
        except OSError:
            is_run = True
        if is_run:
            yield run / "recipe.toml"


def _settings(path: Path) -> dict[str, Any]:
    try:
        text = read_bytes(path, error=DataError, remedy="").decode()
        settings = dict(dotted(tomllib.loads(text)))
    except (
        DataError,
        ValueError,
        RecursionError,
        AttributeError,
    ):  # no file, bad UTF-8, bad TOML, brackets without end
        return {}
    source = settings.get("data.source", "")
    if "/" in str(source):  # a path, which starts in the folder of the run: shown as seen from here
        settings["data.source"] = Path(os.path.relpath(path.parent.resolve() / source)).as_posix()
    return settings


def _differences(recipe: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> str:
    """Settings that tell a run from those it can be compared with."""
    keys = [key for key in sorted(recipe) if key not in ("name", *_FIRST)]
    shown = [key for key in _FIRST if any(other.get(key) != recipe.get(key) for other in all_of_them)]
    alike = [other for other in all_of_them if other.get("data.source") == recipe.get("data.source")]
    for key in keys:
        names = [f"{table}.name" for table in _tables_around(key)]
        comparable = [other for other in alike if all(other.get(name) == recipe.get(name) for name in names)]
        if any(other.get(key) != recipe[key] for other in comparable):
            shown.append(key)
    return " ".join(f"{key}={recipe[key]}" for key in shown if key in recipe)


def _tables_around(key: str) -> list[str]:
    """The tables whose components say what a setting means: not that of the name itself."""
    parts = key.split(".")
    count = len(parts) - (parts[-1] == "name")
    return [".".join(parts[:end]) for end in range(1, count)]


def _results(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The outcome of a run; one that is damaged, or cannot be read, does not hide the others."""
    try:
        return _outcome(run, recipe) if recipe else {"state": "damaged" if _may_read(run) else "unreadable", **_NOTHING}
    except UnknownFormatError:
        return {"state": "unknown format", **_NOTHING}
    except DataError:
        return {"state": "damaged", **_NOTHING}
    except OSError:
        return {"state": "unreadable", **_NOTHING}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # what is read is of another shape
        return {"state": "damaged", **_NOTHING}


def _may_read(run: Path) -> bool:
    return os.access(run, os.R_OK | os.X_OK) and os.access(run / "recipe.toml", os.R_OK)


def _outcome(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    event_log = run / "events.jsonl"
    content = read_bytes(event_log, error=DataError, remedy="") if event_log.exists() else b""
    events = [json.loads(line) for line in content.split(b"\n")[:-1]]  # the last line may be cut short
    last = events[-1]["kind"] if events else "end"  # of a run whose event log is lost, the results tell
    if (run / FILE).exists() and last == "end":
        line = primary_of(Evaluation.read(run, remedy=""))
        if line is None:
            return {"state": "done", **_NOTHING}
        raw = None if line.raw is None else line.raw.value
        return {"state": "done", "measure": line.name, "raw": raw, "model": line.model.value}
    if last == "diverged":
        return {"state": f"diverged at step {events[-1]['step']}", **_NOTHING}
    saved = (event["step"] for event in events if event["kind"] in ("checkpoint", "interrupted"))
    reached = max(saved, default=0)
    is_done = last == "end" and events
    return {"state": "done" if is_done else f"step {reached} of {recipe['train.steps']}", **_NOTHING}
