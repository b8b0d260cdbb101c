"""Distances and reducers of pytorch-metric-learning, read by name and attributes, in terms of this package."""

from dataclasses import dataclass, field
from typing import Any

from tuplet.errors import ShapeError
from tuplet.types import GeometryName


@dataclass(frozen=True)
class LpDistance:
    """Distance of order p, raised to a power.

    Args:
        normalize_embeddings: Divide embeddings by their length first.
        p: 2 has an equal here.
        power: 1 or 2 have one.
    """

    normalize_embeddings: bool = True
    p: float = 2
    power: float = 1


@dataclass(frozen=True)
class CosineSimilarity:
    """Inner product of unit vectors."""


@dataclass(frozen=True)
class DotProductSimilarity:
    """Inner product.

    Args:
        normalize_embeddings: Divide embeddings by their length first.
    """

    normalize_embeddings: bool = True


@dataclass(frozen=True)
class SNRDistance:
    """Variance of a difference, as a share of the anchor's.

    Args:
        normalize_embeddings: Divide embeddings by their length first.
    """

    normalize_embeddings: bool = True


@dataclass(frozen=True)
class MeanReducer:
    """Mean over all."""


@dataclass(frozen=True)
class AvgNonZeroReducer:
    """Mean over those with a loss above 0."""


@dataclass(frozen=True)
class Became:
    """A loss of pytorch-metric-learning in terms of this package.

    Args:
        name: Recipe key of the loss.
        options: Its options.
        note: What differs whatever the settings, in words; empty where nothing does.
        only_called: Why a recipe cannot say it; empty where one can.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    only_called: str = ""

    def __str__(self) -> str:
        """As a recipe says it."""
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"


@dataclass(frozen=True)
class Compared:
    """How two embeddings are compared.

    Args:
        geometry: Of the embeddings, once they are divided by their length if `normalise`.
        normalise: Whether they are; the cosine does so by itself.
    """

    geometry: GeometryName
    normalise: bool

    @property
    def is_similarity(self) -> bool:
        """Whether larger means nearer."""
        return self.geometry in ("cosine", "dot")


def refused(name: str, found: str, hint: str) -> ShapeError:
    """What is said of a call that has no equal here."""
    return ShapeError(f"{name}: {found}.", hint=hint, reference="no-equal")


def compared(name: str, distance: object, otherwise: object) -> Compared:
    """What a distance of pytorch-metric-learning, one of this module, or the name of one means.

    Args:
        name: Of the loss, for messages.
        distance: None for the loss's own.
        otherwise: The loss's own.

    Raises:
        ShapeError: If it has no equal here.
    """
    distance = otherwise if distance is None else distance
    kind = distance if isinstance(distance, str) else type(distance).__name__
    is_unit, power, p = (
        getattr(distance, key, default) for key, default in (("normalize_embeddings", True), ("power", 1), ("p", 2))
    )
    if kind == "LpDistance" and p == 2 and power in (1, 2):
        return Compared("euclidean" if power == 1 else "squared_euclidean", bool(is_unit))
    if kind in ("CosineSimilarity", "DotProductSimilarity") and power == 1 and p == 2:
        return Compared("cosine" if is_unit else "dot", normalise=False)
    if kind == "SNRDistance" and isinstance(otherwise, SNRDistance):  # of one loss, which compares in no other way
        return Compared("squared_euclidean", bool(is_unit))
    raise refused(
        name,
        f"distance = {kind} with p = {p} and power = {power} has no equal here",
        "Use LpDistance with p = 2 and a power of 1 or 2, CosineSimilarity or DotProductSimilarity.",
    )


def reducer_name(name: str, reducer: object, otherwise: str, *known: str) -> str:
    """Which of the known reducers is meant.

    Raises:
        ShapeError: If it is another one.
    """
    found = otherwise if reducer is None else reducer if isinstance(reducer, str) else type(reducer).__name__
    if found not in (otherwise, *known):
        raise refused(
            name,
            f"reducer = {found} has no equal here",
            f"Use {' or '.join((otherwise, *known))}; for other means, loss.measure(...) returns sum and count.",
        )
    return found
