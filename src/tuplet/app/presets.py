"""The presets that come with tuplet, by the kind of supervision they take; read without any of what trains them."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

# Not through `tuplet.recipes`, which imports torch.
FOLDER = resources.files("tuplet") / "recipes" / "presets"
FAMILIES: dict[str, list[str]] = json.loads((resources.files("tuplet.app") / "families.json").read_text("utf-8"))
"""Families of losses and the losses of each; `docs/generate.py` writes them from the declarations."""
YOURS = "your data"


def list_presets() -> list[dict[str, Any]]:
    """One row per preset: kind, preset, loss and what it is about; presets for one's own data first."""
    names = sorted(entry.name.removesuffix(".toml") for entry in FOLDER.iterdir() if entry.name.endswith(".toml"))
    rows = [_row(name) for name in names]
    order = [YOURS, *FAMILIES]
    return sorted(rows, key=lambda row: order.index(row["kind"]))  # stable: by name within a kind


def _row(name: str) -> dict[str, Any]:
    loss = next(found for text in _heritage(name) if (found := _loss(text)))
    family = next(family for family, losses in FAMILIES.items() if loss in losses)
    is_paper = re.search(r"-\d{4}(-small)?$", name)
    first = _text(name).partition("\n")[0]
    return {"kind": family if is_paper else YOURS, "preset": name, "loss": loss, "about": first.removeprefix("# ")}


def _heritage(name: str) -> Iterator[str]:
    """The text of a preset, then those of the presets that it extends."""
    known: str | None = name
    while known is not None:
        text = _text(known)
        yield text
        known = tomllib.loads(text).get("extends")


def _loss(text: str) -> str | None:
    return tomllib.loads(text).get("loss", {}).get("name")


def _text(name: str) -> str:
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
