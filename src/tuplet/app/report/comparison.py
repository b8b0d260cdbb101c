"""The page of a comparison: one HTML file without a script, which opens offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from tuplet.app.metrics import name_of
from tuplet.comparison import ComparisonResult
from tuplet.comparison.results import EntryResult, PairResult, short
from tuplet.errors import counted
from tuplet.storage import write_file

FILE = "comparison.html"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """Learning curves of one entry among those of all.

    Args:
        name: Of the entry.
        own: One `points` of SVG for each seed.
        others: The mean curve of each other entry.
        best: The highest value of its mean curve.
        at: The step of that.
    """

    name: str
    own: Sequence[str]
    others: Sequence[str]
    best: float
    at: int


@dataclass(frozen=True)
class Cell:
    """One entry against another, as its row of the matrix says it."""

    mark: str
    conclusion: str
    difference: float
    corrected: float


def write_page(found: ComparisonResult, folder: Path) -> Path:
    """Write `comparison.html`.

    Args:
        found: What it shows.
        folder: Of the comparison.

    Returns:
        Path of the page.
    """
    path = folder / FILE
    write_file(path, render(found), shared=True)
    return path


def render(found: ComparisonResult) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("tuplet.app.report"), autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = lambda value: f"{value:.3f}"
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "−")
    environment.filters["p"] = lambda value: f"{value:.{4 if value < 0.01 else 3 if value < 0.1 else 2}f}"
    environment.filters["setting"] = lambda value: f"{value:.3g}"
    style = (resources.files("tuplet.app.report") / "templates" / "report.css").read_text(encoding="utf-8")
    low, high = _span(found)
    return environment.get_template("comparison.html.j2").render(
        found=found,
        finding=headline(found),
        lead=lead(found),
        measure=name_of(found.measure),
        cells=_cells(found),
        curves=_curves(found),
        place=lambda value: round(100 * (value - low) / (high - low), 2),
        ends=(low, high),
        short=short,
        style=Markup(style),  # noqa: S704  written here
    )


def headline(found: ComparisonResult) -> str:
    """Who is best, as far as that can be said."""
    ranked = [one for one in found.entries if one.value is not None]
    best = short(ranked[0].name)
    open_ = [pair for pair in found.pairs if pair.first == ranked[0].name and pair.conclusion == "undecided"]
    if not open_:
        return f"{best} is best on {found.source}"
    if len(open_) == len(ranked) - 1:
        return f"No loss is shown to be best on {found.source}"
    return f"{best} leads on {found.source}, undecided against {counted(len(open_), 'other', 'others')}"


def lead(found: ComparisonResult) -> str:
    """How it was found, in three sentences."""
    seeds = len(found.entries[0].seeds)
    unit = counted(found.units, "class", "classes") if found.unit == "classes" else "fixed classes"
    return (
        f"{len(found.entries)} losses with the same encoder, data, split and budget; "
        f"{counted(found.trials, 'trial', 'trials')} of settings each on validation examples, then {seeds} trainings. "
        f"The test split, {found.queries:,} queries of {unit}, was evaluated once for each of these."
    )


def _span(found: ComparisonResult) -> tuple[float, float]:
    """Ends of the axis: all intervals and the raw input, on tenths."""
    numbers = [number for one in found.entries for number in (one.low, one.high) if number is not None]
    numbers += [] if found.raw is None else [found.raw]
    low, high = min(numbers), max(numbers)
    return max(0.0, int(low * 20) / 20), min(1.0, -int(-high * 20) / 20 + 0.05)


def _cells(found: ComparisonResult) -> Mapping[tuple[str, str], Cell]:
    cells = {}
    for pair in found.pairs:
        cells[pair.first, pair.second] = _cell(pair, 1)
        cells[pair.second, pair.first] = _cell(pair, -1)
    return cells


def _cell(pair: PairResult, sign: int) -> Cell:
    if pair.conclusion == "undecided":
        return Cell("·", "undecided", sign * pair.difference, pair.corrected)
    is_better = (pair.conclusion == "better") == (sign > 0)
    return Cell("▲" if is_better else "▼", "better" if is_better else "worse", sign * pair.difference, pair.corrected)


def _curves(found: ComparisonResult) -> list[Curve]:
    """Of each entry, in axes that all share."""
    means = {one.name: _mean(one) for one in found.entries}
    everything = [point for one in found.entries for seed in one.seeds for point in seed.curve]
    if not everything:
        return []
    right = max(step for step, _ in everything)
    low, high = min(value for _, value in everything), max(value for _, value in everything)

    def outlined(points: Points) -> str:
        height = (high - low) or 1.0
        return " ".join(f"{100 * x / right:.2f},{40 - 40 * (y - low) / height:.2f}" for x, y in points)

    curves = []
    for one in found.entries:
        mean = means[one.name]
        if mean:
            at, best = max(mean, key=lambda point: point[1])
            others = [outlined(points) for name, points in means.items() if name != one.name]
            own = [outlined(seed.curve) for seed in one.seeds if seed.curve]
            curves.append(Curve(one.name, own, others, best, int(at)))
    return curves


def _mean(entry: EntryResult) -> list[tuple[float, float]]:
    """The mean over seeds at steps that all of them have."""
    curves = [dict(seed.curve) for seed in entry.seeds if seed.curve]
    shared = set.intersection(*(set(one) for one in curves)) if curves else set()
    return [(step, fmean(one[step] for one in curves)) for step in sorted(shared)]
