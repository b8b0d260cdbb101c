"""The report of a run: one HTML file that opens offline."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from tuplet import __version__
from tuplet.app.report.charts import Chart, map_chart, pairs_chart, training_charts
from tuplet.app.report.gallery import Gallery, read_gallery
from tuplet.app.report.map import choose_points, lay_out, map_data
from tuplet.app.report.neighbours import (
    Neighbours,
    find_neighbours,
    most_confused,
    pick_twins,
    pick_typical,
    pick_worst,
)
from tuplet.app.report.pictures import Sheet, draw_sheet
from tuplet.app.report.words import Word, pick_words
from tuplet.app.verdict import (
    Accepted,
    Measure,
    data_remarks,
    facts,
    measures,
    read_evaluation,
    remarks,
    state_data,
    state_finding,
    verification_lines,
)
from tuplet.evaluation import verification
from tuplet.training.checkpoint import write_file
from tuplet.training.events import read_events

FILE = "report.html"
_QUERIES = 8
_CONFUSIONS = 12
_TWINS = 8
_PAIRS, _DRAWS = 100_000, 200  # pairs of the verification, resamples behind its intervals
_LARGE, _SMALL = 96, 32  # edges of a picture among the examples and on the map, in pixels
_LARGE_BUDGET, _SMALL_BUDGET = 700_000, 1_800_000  # bytes; with Plotly's script the file stays below 9 MB


@dataclass(frozen=True)
class Hit:
    """A neighbour of a query."""

    position: int
    id: str
    label: str
    score: float
    is_right: bool


@dataclass(frozen=True)
class Query:
    """An example and its neighbours."""

    position: int
    id: str
    label: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that lie next to each other; `pictures` are positions."""

    names: tuple[str, str]
    pictures: tuple[int, int]
    mistakes: int = 0
    queries: int = 0


@dataclass
class Page:
    """What the template shows; a section without content is left out."""

    name: str
    date: str
    finding: str
    lead: str
    headline: Sequence[Measure] = ()
    more: Sequence[Measure] = ()
    remarks: Sequence[str] = ()
    words: Sequence[Word] = ()
    typical: Sequence[Query] = ()
    worst: Sequence[Query] = ()
    mistakes: int = 0
    confused: Sequence[Pair] = ()
    twins: Sequence[Pair] = ()
    charts: dict[str, Chart] = field(default_factory=dict)
    verification: Sequence[Accepted] = ()
    map: dict[str, Any] | None = None
    data_remarks: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    recipe: str = ""
    environment: Sequence[tuple[str, str]] = ()
    sheets: dict[str, Sheet] = field(default_factory=dict)
    version: str = __version__

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Id and title of each section that has something to show."""
        shown = {
            "result": ("Result", self.headline),
            "words": ("Words", self.words),
            "neighbours": ("Neighbours", self.typical),
            "map": ("Map", self.map),
            "pairs": ("Same or different", "pairs" in self.charts),
            "confused": ("Confused classes", self.confused),
            "training": ("Training", "loss" in self.charts),
            "data": ("Data", self.facts),
            "reproduce": ("Reproduce", self.recipe),
        }
        return [(name, title) for name, (title, content) in shown.items() if content]


def write_report(run: Path) -> Path:
    """Write `report.html` into the folder of a finished run.

    Args:
        run: The folder; nothing outside of it is read.

    Returns:
        Path of the report.

    Raises:
        DataError: If the run is not finished.
    """
    path = run / FILE
    write_file(path, render(compose(run)))
    return path


def compose(run: Path) -> Page:
    """Everything the report of a run says."""
    evaluation = read_evaluation(run)
    lines = measures(evaluation)
    today = dt.datetime.now().astimezone().date()
    page = Page(
        name=evaluation["name"],
        date=f"{today.day} {today:%B %Y}",
        finding=state_finding(evaluation),
        lead=state_data(evaluation),
        headline=[line for line in lines if line.is_main],
        more=[line for line in lines if not line.is_main],
        charts=training_charts(read_events(run / "events.jsonl")),
        remarks=remarks(evaluation),
        data_remarks=data_remarks(evaluation),
        facts=facts(evaluation),
        recipe=(run / "recipe.toml").read_text(encoding="utf-8"),
        environment=list(json.loads((run / "environment.json").read_text(encoding="utf-8")).items()),
    )
    gallery = read_gallery(run)
    if evaluation["data"]["kind"] == "words":
        page.words = pick_words(gallery, evaluation["seed"])
        return page
    found = find_neighbours(gallery, evaluation["seed"])
    if len(found.queries):
        _show_neighbours(page, gallery, found, evaluation["seed"])
    return page


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=PackageLoader("tuplet.app.report"), autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = lambda value: f"{value:.3f}"
    environment.filters["count"] = lambda value: f"{value:,}"
    files = resources.files("tuplet.app.report") / "templates"
    return environment.get_template("report.html.j2").render(
        page=page,
        charts=[vars(chart) for chart in page.charts.values()],
        plotly=Markup(get_plotlyjs()),  # noqa: S704  the installed package's own script
        style=Markup((files / "report.css").read_text(encoding="utf-8")),  # noqa: S704  ours
        script=Markup((files / "report.js").read_text(encoding="utf-8")),  # noqa: S704  ours
    )


def _show_neighbours(page: Page, gallery: Gallery, found: Neighbours, seed: int) -> None:
    page.mistakes = int((~found.is_right).sum())
    page.typical = [_query(gallery, found, row) for row in pick_typical(found, _QUERIES, seed)]
    page.worst = [_query(gallery, found, row) for row in pick_worst(found, _QUERIES)]
    page.confused = [
        Pair((gallery.name(one.pictures[0]), gallery.name(one.pictures[1])), one.pictures, one.mistakes, one.queries)
        for one in most_confused(found, _CONFUSIONS)
    ]
    if len(np.unique(gallery.labels[gallery.labels >= 0])) > 1:
        _show_pairs(page, gallery, seed)
    rows = choose_points(found, seed)
    places = lay_out(gallery, found.queries[rows], seed)
    labels = gallery.labels[found.queries[rows]]
    page.charts["map"] = map_chart(places, found.is_right[rows], labels, gallery.names)
    page.map = map_data(gallery, found, rows, places)
    if gallery.pictures is not None:
        page.twins = _twins(gallery, seed)
        page.sheets["large"] = draw_sheet(gallery.pictures, _pictured(page), edge=_LARGE, budget=_LARGE_BUDGET)
        small = draw_sheet(gallery.pictures, found.queries[rows].tolist(), edge=_SMALL, budget=_SMALL_BUDGET)
        page.sheets["small"] = small
        page.map |= {"columns": small.columns}


def _show_pairs(page: Page, gallery: Gallery, seed: int) -> None:
    labels = torch.from_numpy(gallery.labels)
    judged = verification(
        gallery.embeddings, labels, geometry=gallery.geometry, max_pairs=_PAIRS, bootstrap=_DRAWS, seed=seed
    )
    page.charts["pairs"] = pairs_chart(judged, gallery.geometry)
    page.verification = verification_lines(judged)


def _twins(gallery: Gallery, seed: int) -> list[Pair]:
    found = find_neighbours(gallery.as_pictures(), seed)
    pairs = [(int(found.queries[row]), int(found.positions[row, 0])) for row in pick_twins(found, _TWINS)]
    return [Pair((gallery.name(first), gallery.name(second)), (first, second)) for first, second in pairs]


def _query(gallery: Gallery, found: Neighbours, row: int) -> Query:
    query = int(found.queries[row])
    hits = tuple(
        Hit(
            position,
            gallery.ids[position],
            gallery.name(position),
            score,
            bool(gallery.labels[position] == gallery.labels[query]),
        )
        for position, score in zip(found.positions[row].tolist(), found.scores[row].tolist(), strict=True)
        if position >= 0
    )
    return Query(query, gallery.ids[query], gallery.name(query), hits)


def _pictured(page: Page) -> list[int]:
    queries = (*page.typical, *page.worst)
    positions = [query.position for query in queries]
    positions += [hit.position for query in queries for hit in query.hits]
    positions += [position for pair in (*page.confused, *page.twins) for position in pair.pictures]
    return list(dict.fromkeys(positions))
