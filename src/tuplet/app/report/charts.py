"""Figures of the report, as Plotly reads them.

Colours are names of CSS variables, such as `var(--accent)`; the page replaces them by those of its theme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.app.metrics import name_of
from tuplet.evaluation import VerificationResult
from tuplet.types import GeometryName

Trace = dict[str, Any]
FAR = 0.01
"""Share of accepted pairs of different classes at the threshold that is drawn."""

_BINS = 20  # of pairs that are equally near, behind a median
_NAMED = 30  # most classes that are named on the map itself
_LONGEST = 24  # letters of such a name


@dataclass(frozen=True)
class Chart:
    """One figure.

    Args:
        name: Id of its element in the page.
        finding: What it shows, as a sentence; also its description for those who do not see it.
        data: Plotly traces.
        layout: Plotly layout.
    """

    name: str
    finding: str
    data: list[Trace]
    layout: dict[str, Any]


def training_charts(events: Sequence[Mapping[str, Any]]) -> dict[str, Chart]:
    """Validation, loss and speed against the step, as far as the event log has them."""
    steps = [event for event in events if event["kind"] == "step" and event["loss"] is not None]
    validations = [event for event in events if event["kind"] == "evaluation" and event["split"] == "validation"]
    model = [event for event in validations if event["of"] == "model"]
    found: dict[str, Chart] = {}
    if model:
        metric = model[0].get("by") or next(iter(model[0]["values"]))
        model = [event for event in model if metric in event["values"]]
    if model:
        raw = next(
            (event["values"].get(metric, {}).get("value") for event in validations if event["of"] == "raw"), None
        )
        scores = [event["values"][metric] for event in model]
        found["validation"] = validation_chart([event["step"] for event in model], scores, raw, name_of(metric))
    if len(steps) > 1:
        at = [event["step"] for event in steps]
        found["loss"] = loss_chart(at, [event["loss"] for event in steps])
        found["speed"] = speed_chart(at, [event["examples_per_second"] for event in steps])
    return found


def loss_chart(steps: Sequence[int], losses: Sequence[float]) -> Chart:
    """The loss at each logged step, and its running mean."""
    smooth = _running_mean(losses, max(1, len(losses) // 20))
    finding = f"The loss went from {smooth[0]:.3g} to {smooth[-1]:.3g} in {steps[-1]:,} steps"
    data = [
        _line(steps, losses, "each step", "var(--faint)", width=1, opacity=0.45),
        _line(steps, smooth, "running mean", "var(--accent)"),
    ]
    return Chart("loss", finding, data, _layout("step", "loss"))


def validation_chart(
    steps: Sequence[int], scores: Sequence[Mapping[str, float]], raw: float | None, metric: str
) -> Chart:
    """A score of the validation examples with its interval, and that of the raw input as a level."""
    values = [score["value"] for score in scores]
    best = max(range(len(values)), key=lambda position: values[position])
    finding = f"Validation {metric} was best at step {steps[best]:,}: {values[best]:.3f}"
    data = []
    if all({"low", "high"} <= score.keys() for score in scores):
        edge = [*(score["high"] for score in scores), *(score["low"] for score in reversed(scores))]
        band = _line([*steps, *reversed(steps)], edge, "95 % interval", "rgba(0,0,0,0)")
        data.append(band | {"fill": "toself", "fillcolor": "var(--accent-soft)", "hoverinfo": "skip"})
    data.append(_line(steps, values, "model", "var(--accent)", mode="lines+markers"))
    if raw is not None:
        level = _line([0, steps[-1]], [raw, raw], "raw input", "var(--faint)")
        level["line"] |= {"dash": "dash"}
        data.append(level)
    return Chart("validation", finding, data, _layout("step", metric))


def speed_chart(steps: Sequence[int], speeds: Sequence[float]) -> Chart:
    """Examples a second at each logged step."""
    finding = f"Training saw {np.median(speeds):,.0f} examples a second"
    layout = _layout("step", "examples / s")
    layout["yaxis"]["rangemode"] = "tozero"
    return Chart("speed", finding, [_line(steps, speeds, "examples / s", "var(--accent)", width=1.5)], layout)


_COLOURS = ("var(--accent)", "var(--ink)", "var(--faint)")


def lines_chart(name: str, finding: str, curves: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Chart:
    """A few curves against the step, by what they are."""
    data = [
        _line([step for step, _ in points], [value for _, value in points], label, colour, width=1.5)
        for (label, points), colour in zip(curves.items(), _COLOURS, strict=False)
    ]
    layout = _layout("step", title) | {"showlegend": len(data) > 1}
    if title.startswith("share"):
        layout["yaxis"] |= {"range": [-0.02, 1.02]}
    return Chart(name, finding, data, layout)


def pairs_chart(
    result: VerificationResult, geometry: GeometryName, kinds: tuple[str, str] = ("same class", "different classes")
) -> Chart:
    """Scores of pairs that belong together and of pairs that do not, as shares of each."""
    scores, is_same = result.scores.numpy(), result.same.numpy()
    same, different = scores[is_same], scores[~is_same]
    edges = np.linspace(min(same.min(), different.min()), max(same.max(), different.max()), 81)
    middles = ((edges[1:] + edges[:-1]) / 2).round(4).tolist()
    data = []
    for values, name, colour, fill in (
        (different, kinds[1], "var(--faint)", "var(--line)"),
        (same, kinds[0], "var(--accent)", "var(--accent-soft)"),
    ):
        share = np.histogram(values, edges)[0] / len(values) * 100
        trace = _line(middles, share.round(4).tolist(), name, colour, width=1.5)
        data.append(trace | {"fill": "tozeroy", "fillcolor": fill})
    words = "similarity" if geometry in ("cosine", "dot") else "distance"
    layout = _layout(f"{words} ({geometry.replace('_', ' ')})", "% of pairs")
    finding = (
        f"The median {words} is {np.median(same):.2f} ({kinds[0]}) against {np.median(different):.2f} ({kinds[1]})"
    )
    threshold = result.thresholds.get(f"far={FAR}")
    if threshold is not None:
        layout["shapes"] = [_upright(threshold)]
        accepted = result.values[f"tar@far={FAR}"]
        finding = (
            f"At a {words} of {threshold:.3f}, {100 * accepted:.1f} % are accepted of the pairs that belong together "
            f"({kinds[0]}), and {100 * FAR:g} % of the others"
        )
    return Chart("pairs", finding, data, layout)


def map_chart(
    places: NDArray[np.float64], is_right: NDArray[np.bool_], labels: NDArray[np.int64], names: Sequence[str]
) -> Chart:
    """Every example where the map puts it: dots, and crosses where the nearest neighbour is of another class.

    The page fills the last trace with the class that is pointed at. `customdata` is the position in the map.
    """
    dot = {"color": "var(--accent)", "size": 5, "opacity": 0.55}
    cross = {"color": "var(--ink)", "size": 6, "symbol": "x-thin-open", "line": {"width": 1.5}}
    data = [
        _dots(places, np.flatnonzero(is_right), dot, "none"),
        _dots(places, np.flatnonzero(~is_right), cross, "none"),
    ]
    finding = (
        f"{len(places):,} examples; {int((~is_right).sum()):,} of them, the crosses, have a nearest neighbour of "
        f"another class"
    )
    return _map(places, data, finding, _class_names(places, labels, names))


def plain_map_chart(places: NDArray[np.float64], values: NDArray[np.float64] | None) -> Chart:
    """Every example where the map puts it, coloured by a number if there is one."""
    dot: Trace = {"color": "var(--accent)", "size": 6, "opacity": 0.6}
    finding = f"{len(places):,} examples"
    if values is not None:
        low, high = float(values.min()), float(values.max())
        finding = f"{finding}, coloured by their target from {low:.4g} to {high:.4g}: neighbours should have one colour"
        dot = {
            "color": values.tolist(),
            "size": 7,
            "opacity": 0.9,
            "colorscale": "Viridis",
            "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"text": "target"}},
        }
    return _map(places, [_dots(places, np.arange(len(places)), dot, "none")], finding, [])


def _map(places: NDArray[np.float64], data: list[Trace], finding: str, annotations: list[Trace]) -> Chart:
    ring = {"color": "rgba(0,0,0,0)", "size": 12, "line": {"color": "var(--ink)", "width": 2}}
    data = [*data, _dots(places, np.empty(0, dtype=np.int64), ring, "skip")]
    hidden = {"visible": False, "fixedrange": False}
    layout = _layout("", "") | {
        "dragmode": "pan",
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": hidden,
        "yaxis": hidden | {"scaleanchor": "x"},
        "annotations": annotations,
    }
    return Chart("map", finding, data, layout)


def targets_chart(
    distances: NDArray[np.float64], target_distances: NDArray[np.float64], spearman: float | None
) -> Chart:
    """Distance of targets against distance of embeddings of pairs, and its median where pairs are equally near."""
    order = np.argsort(distances, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    near = [float(np.median(distances[part])) for part in parts]
    middle = [float(np.median(target_distances[part])) for part in parts]
    dots = {"color": "var(--faint)", "size": 4, "opacity": 0.35}
    scattered = _dots(
        np.stack([distances, target_distances], 1), np.arange(len(target_distances)), dots, "skip", digits=5
    )
    data = [scattered | {"name": "pairs"}, _line(near, middle, "median", "var(--accent)", width=3)]
    found = "" if spearman is None else f" (rank correlation {spearman:.3f})"
    finding = f"The nearer two embeddings, the nearer their targets should be{found}"
    return Chart("targets", finding, data, _layout("distance of embeddings", "distance of targets"))


def _dots(
    places: NDArray[np.float64], positions: NDArray[np.int64], marker: Trace, hoverinfo: str, digits: int = 2
) -> Trace:
    return {
        "type": "scattergl",
        "mode": "markers",
        "marker": marker,
        "hoverinfo": hoverinfo,
        "x": places[positions, 0].round(digits).tolist(),
        "y": places[positions, 1].round(digits).tolist(),
        "customdata": positions.tolist(),
    }


def _class_names(places: NDArray[np.float64], labels: NDArray[np.int64], names: Sequence[str]) -> list[Trace]:
    """The name of each class in its middle, where there are few enough to read."""
    classes = np.unique(labels)
    if len(classes) > _NAMED:
        return []
    style = {
        "showarrow": False,
        "bgcolor": "var(--ground)",
        "borderpad": 1,
        "font": {"size": 14, "color": "var(--ink)"},
    }
    middles = [np.median(places[labels == label], axis=0).round(2).tolist() for label in classes]
    return [
        style | {"text": f"<b>{escape(names[label][:_LONGEST])}</b>", "x": x, "y": y}
        for label, (x, y) in zip(classes.tolist(), middles, strict=True)
    ]


def _upright(x: float) -> dict[str, Any]:
    line = {"color": "var(--ink)", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _line(
    x: Sequence[float],
    y: Sequence[float],
    name: str,
    colour: str,
    *,
    width: float = 2,
    mode: str = "lines",
    opacity: float = 1,
) -> Trace:
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": width},
        "opacity": opacity,
    }


def _layout(x_title: str, y_title: str) -> dict[str, Any]:
    axis = {
        "gridcolor": "var(--line)",
        "zeroline": False,
        "linecolor": "var(--faint)",
        "tickcolor": "var(--faint)",
        "automargin": True,
    }
    return {
        "xaxis": axis
        | {"title": {"text": x_title, "standoff": 8}, "rangemode": "tozero"}
        | {"showgrid": False, "showline": True, "ticks": "outside"},
        "yaxis": axis | {"title": {"text": y_title, "standoff": 8}},
        "font": {
            "color": "var(--muted)",
            "size": 13,
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
        },
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 28, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "var(--ground)", "bordercolor": "var(--faint)", "font": {"color": "var(--ink)"}},
        "dragmode": False,
    }


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return ((sums[ends] - sums[starts]) / (ends - starts)).tolist()


_GROUPS: tuple[tuple[str, str, dict[str, str], str], ...] = (
    (
        "scores",
        "Mean score of positives and of negatives: what training separates",
        {"positive_score": "positives", "negative_score": "negatives"},
        "score",
    ),
    (
        "active",
        "Share of pairs or triplets with a non-zero gradient; at 0 training stops",
        {"active_share": "with a loss above 0", "without_positives_share": "anchors without a positive"},
        "share",
    ),
    (
        "hardness",
        "Easy triplets are solved, semi-hard ones lie within the margin, hard ones have the negative nearer",
        {"easy_share": "easy", "semihard_share": "semi-hard", "hard_share": "hard"},
        "share of triplets",
    ),
    ("norms", "Mean length of an embedding", {"norm": "length"}, "length"),
    ("capped", "Words whose gradient was longer than the cap", {"capped_share": "capped"}, "share of words"),
    ("temperature", "Temperature by which scores are divided", {"temperature": "temperature"}, "temperature"),
)


def loss_charts(events: Sequence[Mapping[str, Any]]) -> dict[str, Chart]:
    """One chart for each group of loss metrics that the event log has; what never changes is left out."""
    steps = [event for event in events if event["kind"] == "step" and event["stats"]]
    found: dict[str, Chart] = {}
    for name, finding, wanted, title in _GROUPS:
        known = {
            label: [(event["step"], event["stats"][key]) for event in steps if event["stats"].get(key) is not None]
            for key, label in wanted.items()
        }
        curves = {
            label: points
            for label, points in known.items()
            if len(points) > 1 and (name == "scores" or len({value for _, value in points}) > 1)
        }
        if len(curves) == len(wanted) or (curves and name != "scores"):  # one score alone says little
            found[name] = lines_chart(name, finding, curves, title)
    return found
