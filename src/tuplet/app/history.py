"""All runs of a folder: how far they came, what they reached, where their recipes differ."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuplet.errors import DataError


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """One row per run, the best last.

    Returns:
        `run`, `state`, `raw` and `recall@1` (None before the end), and `differs`: settings that not all runs share.

    Raises:
        DataError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", hint="Start a run: tuplet demo", reference="no-runs")
    recipes = {
        path.parent: dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))
        for path in sorted(folder.glob("*/recipe.toml"))
    }
    keys = sorted({key for recipe in recipes.values() for key in recipe} - {"name"})
    differing = [key for key in keys if len({str(recipe.get(key)) for recipe in recipes.values()}) > 1]
    rows = [
        {"run": str(run), **_outcome(run, recipe)}
        | {"differs": " ".join(f"{key}={recipe[key]}" for key in differing if key in recipe)}
        for run, recipe in recipes.items()
    ]
    return sorted(rows, key=lambda row: (row["recall@1"] is not None, row["recall@1"] or 0.0))


def _outcome(run: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    verdict = run / "evaluation.json"
    if verdict.exists():
        judged = json.loads(verdict.read_text(encoding="utf-8"))["protocols"].get("all", {})
        values = {of: judged[of]["values"].get("recall@1") if of in judged else None for of in ("raw", "model")}
        return {"state": "done", "raw": values["raw"], "recall@1": values["model"]}
    diary = run / "events.jsonl"
    lines = diary.read_bytes().split(b"\n")[:-1] if diary.exists() else []  # the last one may be cut short
    events = [json.loads(line) for line in lines]
    ended = any(event["kind"] == "end" for event in events)
    reached = max((event["step"] for event in events if event["kind"] == "checkpoint"), default=0)
    return {"state": "done" if ended else f"step {reached} of {recipe['train.steps']}", "raw": None, "recall@1": None}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
