"""What was read as what, in one line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuplet.data import Manifest
from tuplet.errors import counted

if TYPE_CHECKING:
    from tuplet.results import DataSummary

_NOUNS = {"image": "image", "vector": "row", "series": "series", "text": "text"}
_SHOWN = 4


def describe(manifest: Manifest) -> str:
    """What a manifest holds, in one line; see `sentence`."""
    labels = manifest.labels
    missing = 0 if labels is None else int((labels < 0).sum())
    return sentence(
        Path(manifest.source).name, manifest.kind, len(manifest), manifest.column_roles(), unlabelled=missing
    )


def describe_facts(data: "DataSummary") -> str:
    """The same of the data of a training, with the words to change it.

    Args:
        data: What was trained and evaluated on.
    """
    rows = sum(split.examples for split in data.splits.values())
    if not data.columns:
        known = "with classes" if any(split.classes for split in data.splits.values()) else "without classes"
        return f"{data.source}: {_count(data.kind, rows)} {known}."
    words = "To change it: --set data.columns.label=NAME (or none; also group, id, text, path, pair), --set "
    described = sentence(data.source, data.kind, rows, data.columns, unlabelled=data.unlabelled)
    return f"{described} {words}\"data.columns.inputs=['A','B']\"."


def sentence(source: str, kind: str, rows: int, roles: Mapping[str, Sequence[str]], *, unlabelled: int = 0) -> str:
    """What each column of some data is, and which are not read.

    Args:
        source: Name of the data.
        kind: What an example is.
        rows: How many examples there are.
        roles: Names of columns by role, as `Manifest.column_roles` lists them; empty without a table.
        unlabelled: How many examples have no class.
    """
    parts = []
    for role, names in roles.items():
        missing = f" ({unlabelled:,} without)" if role == "label" and names and unlabelled else ""
        parts.append(f"{'not read' if role == 'unread' else role}: {_listed(names)}{missing}")
    return f"{'; '.join([f'{source}: {_count(kind, rows)}', *parts])}."


def _count(kind: str, rows: int) -> str:
    noun = _NOUNS.get(kind, "example")
    return counted(rows, noun, noun if kind == "series" else f"{noun}s")


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
