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
from tuplet.app.metrics import Metric, metrics_of
from tuplet.app.report.answers import Answers
from tuplet.app.report.charts import (
    Chart,
    loss_charts,
    map_chart,
    pairs_chart,
    plain_map_chart,
    targets_chart,
    training_charts,
)
from tuplet.app.report.gallery import Gallery, beside, read_gallery, read_questions
from tuplet.app.report.map import choose_points, lay_out, map_data
from tuplet.app.report.neighbours import (
    Neighbours,
    Word,
    find_neighbours,
    most_confused,
    pick_twins,
    pick_typical,
    pick_words,
    pick_worst,
)
from tuplet.app.report.pictures import Sheet, draw_sheet
from tuplet.app.report.shown import Pair, Query, draw_outlines, positions_of, show_query
from tuplet.app.summary import (
    Accepted,
    data_notes,
    facts,
    notes,
    read_evaluation,
    state_data,
    state_finding,
    verification_lines,
)
from tuplet.engine.topk import nearness, pair_scores
from tuplet.evaluation import rank_correlation, verification
from tuplet.evaluation.pairs import unordered_pairs
from tuplet.seeding import derive
from tuplet.storage import write_file
from tuplet.training.evaluator import PAIR_DRAWS, PAIRS
from tuplet.training.events import read_events

FILE = "report.html"
_QUERIES = 8
_CONFUSIONS = 12
_TWINS = 8
_DOTS = 3_000  # pairs in the scatter of targets
_LARGE, _SMALL = 96, 32  # edges of a picture among the examples and on the map, in pixels
_LARGE_BUDGET, _SMALL_BUDGET = 700_000, 1_800_000  # bytes; with Plotly's script the file stays below 9 MB


@dataclass
class Page:
    """What the template shows; a section without content is left out."""

    name: str
    date: str
    finding: str
    lead: str
    headline: Sequence[Metric] = ()
    more: Sequence[Metric] = ()
    notes: Sequence[str] = ()
    words: Sequence[Word] = ()
    typical: Sequence[Query] = ()
    worst: Sequence[Query] = ()
    mistakes: int = 0
    confused: Sequence[Pair] = ()
    twins: Sequence[Pair] = ()
    charts: dict[str, Chart] = field(default_factory=dict)
    verification: Sequence[Accepted] = ()
    map: dict[str, Any] | None = None
    data_notes: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    recipe: str = ""
    environment: Sequence[tuple[str, Any]] = ()
    sheets: dict[str, Sheet] = field(default_factory=dict)
    outlines: dict[int, list[str]] = field(default_factory=dict)
    health: Sequence[Metric] = ()
    asked: str = "class"
    version: str = __version__

    @property
    def has_untrained(self) -> bool:
        """Whether the encoder before training was evaluated too."""
        return any(line.untrained for line in (*self.headline, *self.more))

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Id and title of each section that has something to show."""
        shown = {
            "result": ("Result", self.headline),
            "words": ("Words", self.words),
            "neighbours": ("Neighbours", self.typical),
            "map": ("Map", self.map),
            "targets": ("Targets", "targets" in self.charts),
            "pairs": ("Same or different", "pairs" in self.charts),
            "confused": ("Confused classes", self.confused),
            "health": ("Health", self.health),
            "training": ("Training", "loss" in self.charts or "validation" in self.charts),
            "data": ("Data", self.facts),
            "reproduce": ("Reproduce", self.recipe),
        }
        return [(name, title) for name, (title, content) in shown.items() if content]


def write_report(run: Path, device: str = "cpu") -> Path:
    """Write `report.html` into the folder of a finished run.

    Args:
        run: The folder; nothing outside of it is read.
        device: Where neighbours are searched for.

    Returns:
        Path of the report.

    Raises:
        DataError: If the run is not finished.
    """
    path = run / FILE
    write_file(path, render(compose(run, device)), shared=True)
    return path


def compose(run: Path, device: str = "cpu") -> Page:
    """Everything the report of a run says."""
    evaluation = read_evaluation(run)
    seed, lines = evaluation.seed, metrics_of(evaluation)
    events = read_events(run / "events.jsonl")
    today = dt.datetime.now().astimezone().date()
    page = Page(
        name=evaluation.name,
        date=f"{today.day} {today:%B %Y}",
        finding=state_finding(evaluation),
        lead=state_data(evaluation),
        headline=[line for line in lines if line.is_main],
        more=[line for line in lines if not line.is_main and line.protocol not in ("health", "verification")],
        health=[line for line in lines if line.protocol == "health"],
        charts=training_charts(events) | loss_charts(events),
        notes=notes(evaluation),
        data_notes=data_notes(evaluation),
        facts=facts(evaluation),
        recipe=(run / "recipe.toml").read_text(encoding="utf-8"),
        environment=list(json.loads((run / "environment.json").read_text(encoding="utf-8")).items()),
    )
    gallery = read_gallery(run)
    if evaluation.data.kind == "words":
        page.words, page.asked = pick_words(gallery, seed), "pair"
        return page
    questions = read_questions(run)
    found = find_neighbours(gallery, seed, device)
    if questions is not None and len(gallery.ids) > 1:
        _show_answers(page, Answers(gallery, questions, seed))
        gallery = beside(gallery, questions[0])
    elif len(found.queries):
        _show_neighbours(page, gallery, found, seed, device)
    if len(found.queries):
        _show_map(page, gallery, found, seed)
    if gallery.outlines is not None:
        page.outlines = draw_outlines(gallery.outlines, _pictured(page))
    return page


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=PackageLoader("tuplet.app.report"), autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = lambda value: f"{value:.3f}"
    environment.filters["percent"] = lambda value: 100 * min(1.0, max(0.0, value))
    environment.filters["count"] = lambda value: f"{value:,}"
    files = resources.files("tuplet.app.report") / "templates"
    return environment.get_template("report.html.j2").render(
        page=page,
        charts=[vars(chart) for chart in page.charts.values()],
        plotly=Markup(get_plotlyjs()),  # noqa: S704  the installed package's own script
        style=Markup((files / "report.css").read_text(encoding="utf-8")),  # noqa: S704  written here
        script=Markup((files / "report.js").read_text(encoding="utf-8")),  # noqa: S704  written here
    )


def _show_answers(page: Page, answers: Answers) -> None:
    mistakes = answers.mistakes
    page.asked, page.mistakes = "pair", len(mistakes)
    page.typical = answers.typical(_QUERIES)
    page.worst = [answers.show(row) for row in mistakes[:_QUERIES].tolist()]
    result = answers.verify()
    page.charts["pairs"] = pairs_chart(result, answers.gallery.geometry, ("own answer", "another answer"))


def _show_neighbours(page: Page, gallery: Gallery, found: Neighbours, seed: int, device: str) -> None:
    page.typical = [show_query(gallery, found, row) for row in pick_typical(found, _QUERIES, seed)]
    if gallery.targets is not None:
        page.charts["targets"] = _targets(gallery, seed)
    if not gallery.names:
        page.asked = "none" if gallery.targets is None else "target"
        return
    page.mistakes = int((~found.is_right).sum())
    page.worst = [show_query(gallery, found, row) for row in pick_worst(found, _QUERIES)]
    page.confused = [
        Pair((gallery.name(one.pictures[0]), gallery.name(one.pictures[1])), one.pictures, one.mistakes, one.queries)
        for one in most_confused(found, _CONFUSIONS)
    ]
    if len(np.unique(gallery.labels[gallery.labels >= 0])) > 1:
        _show_pairs(page, gallery, seed)
    if gallery.pictures is not None:
        page.twins = _twins(gallery, seed, device)


def _show_map(page: Page, gallery: Gallery, found: Neighbours, seed: int) -> None:
    rows = choose_points(found, seed)
    points = found.queries[rows]
    places = lay_out(gallery, points, seed)
    if gallery.names:
        page.charts["map"] = map_chart(places, found.is_right[rows], gallery.labels[points], gallery.names)
    else:
        values = None if gallery.targets is None else gallery.targets[points, 0]
        page.charts["map"] = plain_map_chart(places, values)
    page.map = map_data(gallery, found, rows, places)
    if gallery.pictures is not None:
        page.sheets["large"] = draw_sheet(gallery.pictures, _pictured(page), edge=_LARGE, budget=_LARGE_BUDGET)
        small = draw_sheet(gallery.pictures, points.tolist(), edge=_SMALL, budget=_SMALL_BUDGET)
        page.sheets["small"] = small
        page.map |= {"columns": small.columns}


def _targets(gallery: Gallery, seed: int) -> Chart:
    assert gallery.targets is not None  # noqa: S101  asked for where there are some
    targets, embeddings = torch.from_numpy(gallery.targets), gallery.embeddings
    first, second = unordered_pairs(len(targets), _DOTS, derive(seed, "report", "targets"))
    distances = -nearness(pair_scores(embeddings[first], embeddings[second], gallery.geometry), gallery.geometry)
    target_distances = pair_scores(targets[first], targets[second], "euclidean")
    return targets_chart(
        distances.numpy(), target_distances.numpy(), rank_correlation(distances, target_distances)["spearman"]
    )


def _show_pairs(page: Page, gallery: Gallery, seed: int) -> None:
    labels = torch.from_numpy(gallery.labels)
    result = verification(
        gallery.embeddings, labels, geometry=gallery.geometry, max_pairs=PAIRS, bootstrap=PAIR_DRAWS, seed=seed
    )
    page.charts["pairs"] = pairs_chart(result, gallery.geometry)
    page.verification = verification_lines(result)


def _twins(gallery: Gallery, seed: int, device: str) -> list[Pair]:
    found = find_neighbours(gallery.as_pictures(), seed, device)
    pairs = [(int(found.queries[row]), int(found.positions[row, 0])) for row in pick_twins(found, _TWINS)]
    return [Pair((gallery.name(first), gallery.name(second)), (first, second)) for first, second in pairs]


def _pictured(page: Page) -> list[int]:
    return positions_of([*page.typical, *page.worst], [*page.confused, *page.twins])
