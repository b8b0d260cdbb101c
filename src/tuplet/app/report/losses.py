"""What the loss said of its batches, against the step."""

from collections.abc import Mapping, Sequence
from typing import Any

from tuplet.app.report.charts import Chart, lines_chart

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
