"""Which threshold a model has for a wanted rate of false accepts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuplet.errors import DataError
from tuplet.geometry import geometry_of
from tuplet.models import Embedder

USUAL_RATE = 0.01


@dataclass(frozen=True)
class Threshold:
    """A score from which on two items count as the same.

    Args:
        value: In the unit of the score.
        larger_is_same: Whether scores are similarities.
        point: Where it comes from, with its rates on validation classes; None for a number that was typed.
    """

    value: float
    larger_is_same: bool
    point: Mapping[str, Any] | None = None

    @property
    def rates(self) -> dict[str, float]:
        """Error rates on validation classes, with the ends of their intervals; none for a number that was typed."""
        if self.point is None:
            return {}
        rates: dict[str, float] = {}
        for name in ("threshold", "false_accepts", "false_rejects"):
            rate = self.point[name]
            rates |= {name: rate["value"], f"{name}_low": rate["low"], f"{name}_high": rate["high"]}
        return rates

    def accepts(self, score: float) -> bool:
        """Whether a score reaches it."""
        return score >= self.value if self.larger_is_same else score <= self.value


def threshold_for(embedder: Embedder, rate: float) -> Threshold:
    """The threshold of the largest measured rate of false accepts that does not exceed a wanted one.

    Raises:
        DataError: If the model has no thresholds, or none as strict as that.
    """
    points = embedder.verification.get("points", [])
    if not points:
        raise DataError(
            "The model has no thresholds: it was trained without validation classes.",
            hint="Give a number: --threshold NUMBER. Or train with --set data.split.validation=0.2",
            reference="no-threshold",
        )
    fitting = [point for point in points if point["rate"] <= rate * (1 + 1e-9)]
    if not fitting:
        strictest, of = min(point["rate"] for point in points), embedder.verification
        raise DataError(
            f"The strictest rate of false accepts that was measured is {strictest:g}, not {rate:g}: it rests on "
            f"{of['n_different']:,} pairs of {of['n_classes']:,} validation classes.",
            hint=f"Use --far {strictest:g}, or train with more validation classes.",
            reference="no-threshold",
        )
    point = max(fitting, key=lambda one: one["rate"])
    return Threshold(point["threshold"]["value"], _is_similarity(embedder), point)


def threshold_of(embedder: Embedder, typed: str) -> Threshold:
    """What `--threshold` says: a number, or `auto` for the usual rate of false accepts.

    Raises:
        DataError: If it is neither, or the model has no thresholds.
    """
    if typed == "auto":
        return threshold_for(embedder, USUAL_RATE)
    try:
        value = float(typed)
    except ValueError:
        value = float("nan")
    if value != value:  # noqa: PLR0124  not a number
        raise DataError(
            f"--threshold {typed}: that is not a number.", hint="Give a number, or auto.", reference="no-threshold"
        )
    return Threshold(value, _is_similarity(embedder))


def _is_similarity(embedder: Embedder) -> bool:
    return geometry_of(embedder.geometry).kind == "similarity"
