"""The page of an audit: findings with their pictures, and marks that can be changed and saved."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
from markupsafe import Markup
from torch import Tensor

from tuplet.app.auditing import Audit, Finding
from tuplet.app.report.pictures import Sheet, draw_sheet
from tuplet.errors import counted

_SHOWN = 200  # of each kind; the table holds all
_EDGE, _BUDGET = 64, 2_000_000
_KINDS = {
    "duplicate": (
        "Copies",
        "The same input, or nearly so. Across splits the evaluation counts it as unseen. All but the first are marked.",
    ),
    "label": (
        "Labels that neighbours contradict",
        "More of the nearest examples belong to another class; the number is how many more, as a share.",
    ),
    "outlier": (
        "Outliers",
        "Farther from everything than others are; the number is in robust deviations from the median.",
    ),
}


@dataclass(frozen=True)
class _Section:
    kind: str
    title: str
    note: str
    findings: Sequence[dict[str, Any]]
    more: str


@dataclass(frozen=True)
class _Page:
    name: str
    finding: str
    lead: str
    sections: Sequence[_Section]
    confusions: Sequence[tuple[str, str, int]]
    sheet: Sheet | None
    places: dict[str, tuple[int, int]]


def findings_page(audit: Audit, name: str) -> str:
    """One HTML file that opens offline.

    Args:
        audit: What was found.
        name: Of the run.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only pages need it

    numbered = list(enumerate(audit.findings))
    sections = []
    for kind, (title, note) in _KINDS.items():
        mine = [(row, one) for row, one in numbered if one.finding == kind]
        shown = [asdict(one) | {"row": row, "text": _said(one)} for row, one in mine[:_SHOWN]]
        more = f"{len(mine) - _SHOWN:,} more are in the table." if len(mine) > _SHOWN else ""
        if mine:
            sections.append(_Section(kind, f"{title}: {len(mine):,}", note, shown, more))
    names = [name for section in sections for one in section.findings for name in (one["id"], one["other"]) if name]
    sheet, places = _pictures(audit, names)
    used, dim = audit.dimensions
    lead = (
        f"{audit.examples:,} examples were looked at. Their embeddings use {used:.1f} of {dim} directions (effective "
        "rank)."
    )
    finding = ", ".join(_count(audit, kind) for kind in _KINDS)
    page = _Page(name, f"{finding} in {name}", lead, sections, audit.confusions[:20], sheet, places)
    table = list(csv.reader(io.StringIO(audit.table())))
    environment = Environment(loader=PackageLoader("tuplet.app.report"), autoescape=True, undefined=StrictUndefined)
    style = (resources.files("tuplet.app.report") / "templates" / "report.css").read_text(encoding="utf-8")
    return environment.get_template("audit.html.j2").render(
        page=page,
        style=Markup(style),  # noqa: S704  written here
        table=Markup(json.dumps(table).replace("<", "\\u003c")),  # noqa: S704  no tag can end in it
    )


def _count(audit: Audit, kind: str) -> str:
    number = sum(one.finding == kind for one in audit.findings)
    words = {"duplicate": ("copy", "copies"), "label": ("doubtful label", "doubtful labels")}
    return counted(number, *words.get(kind, ("outlier", "outliers")))


def _said(one: Finding) -> str:
    where = f" ({one.split})" if one.split else ""
    if one.finding == "label":
        return f"labelled {one.label}{where}, lies among {one.suggested}"
    if one.finding == "duplicate":
        return f"{one.label}{where}, group {one.group}"
    return f"{one.label}{where}"


def _pictures(audit: Audit, names: Sequence[str]) -> tuple[Sheet | None, dict[str, tuple[int, int]]]:
    if audit.dataset is None:
        return None, {}
    inputs = audit.dataset.inputs
    if audit.dataset.kind != "image" or not isinstance(inputs, Tensor) or not names:
        return None, {}
    positions = {name: audit.positions[name] for name in dict.fromkeys(names)}
    sheet = draw_sheet(np.asarray(inputs), list(positions.values()), edge=_EDGE, budget=_BUDGET)
    return sheet, {name: sheet.place(at) for name, at in positions.items()}
