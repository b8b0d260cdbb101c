"""Which pairs are positive, negative or ignored: `same_class(labels).ignoring(same_class(cameras))`.

A rule says of every pair yes, no or nothing. `a & b` is yes where both say yes, and no where one says no; `a | b` is
yes where one says yes, and no where both say no; `~a` turns yes and no round; `a.ignoring(b)` says nothing where b says
yes.
As the `relation` of a loss, yes makes positives, no makes negatives, and pairs of which nothing is said are ignored.

A rule keeps a few numbers for each example, never for each pair: the answers of a tile are computed with the tile.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.keys import LabelDistance
from tuplet.rule import Answer, Form, Levels, Question, Rule, Values, asking

__all__ = [
    "Levels",
    "Rule",
    "hierarchy",
    "matrix",
    "paired",
    "same_class",
    "shared_label",
    "similar",
    "tree_distance",
    "within",
]

Own = Callable[[Tensor, Tensor], Tensor]
"""Positions of anchors (rows, 1) and of references (1, cols) -> what is said of the pairs, (rows, cols)."""


@dataclass(frozen=True)
class _Equal:
    def __call__(self, rows: Values, cols: Values) -> Answer:
        same, known = rows["label"] == cols["label"], (rows["label"] != -1) & (cols["label"] != -1)
        return same & known, ~same & known


def same_class(
    labels: Shaped[Tensor, " anchors"], reference_labels: Shaped[Tensor, " references"] | None = None
) -> Rule:
    """Yes if the ids are equal, no if they differ; of an id of -1 nothing is said.

    Args:
        labels: Class ids of the anchors.
        reference_labels: Of a second set.
    """
    sides = [_whole_numbers(x) for x in (labels, reference_labels) if x is not None]
    return _of_values(_Equal(), "label", sides, [x != -1 for x in sides])


@dataclass(frozen=True)
class _Shared:
    def __call__(self, rows: Values, cols: Values) -> Answer:
        mine, theirs = rows["labels"][:, 0], cols["labels"][0]
        share, known = (mine @ theirs.T) > 0, mine.any(1)[:, None] & theirs.any(1)[None]
        return share & known, ~share & known


def shared_label(
    labels: Shaped[Tensor, "anchors classes"], reference_labels: Shaped[Tensor, "references classes"] | None = None
) -> Rule:
    """Yes if a label is shared, no if none is; of examples without any nothing is said.

    Args:
        labels: Multi-hot rows of the anchors.
        reference_labels: Of a second set.
    """
    sides = [(x != 0).float() for x in (labels, reference_labels) if x is not None]
    return _of_values(_Shared(), "labels", sides, [x.any(1) for x in sides])


@dataclass(frozen=True)
class _Partner:
    def __call__(self, rows: Values, cols: Values) -> Answer:
        yes = rows["partner"] == cols["place"]
        return yes, ~yes


def paired(partner: Shaped[Tensor, " anchors"]) -> Rule:
    """Yes for one reference of each anchor, no for all others.

    Args:
        partner: Its position among the references of all processes; -1 for none.
    """
    return asking(Question(_Partner(), {"partner": _whole_numbers(partner)}, {}, is_symmetric=False))


@dataclass(frozen=True)
class _Near:
    most: float

    def __call__(self, rows: Values, cols: Values) -> Answer:
        apart = rows["value"] - cols["value"]
        apart = apart.abs() if apart.ndim == 2 else apart.square().sum(-1).sqrt()
        return apart <= self.most, apart > self.most


def within(
    values: Num[Tensor, "anchors *values"],
    most: float,
    reference_values: Num[Tensor, "references *values"] | None = None,
) -> Rule:
    """Yes for times, or places, that are at most so far apart, no for others; of NaN nothing is said.

    Args:
        values: Times (anchors,), or places (anchors, coordinates), of which the Euclidean distance counts. Whole
            numbers are compared as such, so that time stamps keep their digits.
        most: In their unit.
        reference_values: Of a second set.
    """
    given = [x for x in (values, reference_values) if x is not None]
    sides = [x.double() if x.is_floating_point() or x.ndim > 1 else x.long() for x in given]
    known = [~(x.isnan().any(1) if x.ndim > 1 else x.isnan()) for x in sides]
    return _of_values(_Near(most), "value", sides, known)


@dataclass(frozen=True)
class _Alike:
    least: float

    def __call__(self, rows: Values, cols: Values) -> Answer:
        yes = rows["guide"][:, 0] @ cols["guide"][0].T >= self.least
        return yes, ~yes


def similar(
    guide: Float[Tensor, "anchors dim"], least: float, reference_guide: Float[Tensor, "references dim"] | None = None
) -> Rule:
    """Yes where another model finds two examples alike: its cosine is `least` or more; no elsewhere.

    Args:
        guide: Embeddings of that model; constants.
        least: The cosine.
        reference_guide: Of a second set.
    """
    sides = [normalise(x.detach().float()) for x in (guide, reference_guide) if x is not None]
    return _of_values(_Alike(least), "guide", sides, None)


@dataclass(frozen=True)
class _Entry:
    """Entries of rows that are held."""

    def __call__(self, rows: Values, cols: Values) -> Answer:
        return _answer(rows["row"][:, 0].index_select(1, cols["place"][0]))


@dataclass(frozen=True)
class _Own:
    """Entries that a person's function computes."""

    function: Own

    def __call__(self, rows: Values, cols: Values) -> Answer:
        said = self.function(rows["at"], cols["place"])
        wanted = (rows["at"].shape[0], cols["place"].shape[1])
        if said.shape != wanted:
            raise LabelError(
                f"The function of a relation returned shape {tuple(said.shape)} for {wanted[0]} anchors and "
                f"{wanted[1]} references.",
                hint="It gets positions (anchors, 1) and (1, references), and answers each pair: "
                "lambda i, j: table[i, j].",
                reference="relation-size",
            )
        return _answer(said)


def matrix(said: Shaped[Tensor, "anchors references"] | Own) -> Rule:
    """Yes and no as given, pair by pair.

    Args:
        said: bool, or whole numbers: above 0 is yes, 0 no, and of a pair below 0 nothing is said. A tensor with a row
            for each anchor of this process, and a column for each reference of all; or a function of their positions
            among those of all processes, (rows, 1) and (1, cols), that is asked for a tile at a time.
    """
    if isinstance(said, Tensor):
        return asking(Question(_Entry(), {"row": said}, {}, is_symmetric=False))
    return asking(Question(_Own(said), {}, {}, is_symmetric=False))


def hierarchy(
    levels: Int[Tensor, "anchors levels"],
    weights: Sequence[float] | None = None,
    reference_levels: Int[Tensor, "references levels"] | None = None,
) -> Levels:
    """The levels of a taxonomy: under each, examples belong together that agree down to it.

    Args:
        levels: Ids from the coarsest level to the finest; -1 where one is unknown.
        weights: Of the levels; by default all count alike.
        reference_levels: Of a second set.
    """
    depth = levels.shape[1]
    weights = [1.0] * depth if weights is None else list(weights)
    if len(weights) != depth or min(weights) < 0 or not sum(weights) > 0:
        raise LabelError(
            f"{len(weights)} weights were given for {depth} levels, or some are below 0, or all are 0.",
            hint="Give each level one weight of at least 0.",
            reference="relation-size",
        )
    rules: list[Rule] = []
    for level in range(depth):
        theirs = None if reference_levels is None else reference_levels[:, level]
        rule = same_class(levels[:, level], theirs)
        rules.append(rules[-1] & rule if rules else rule)
    return Levels(tuple(rules), tuple(weights))


def tree_distance(weights: Sequence[float]) -> LabelDistance:
    """Label distance of a taxonomy for graded losses: the weights of the levels on which two examples differ, in sum.

    Args:
        weights: Of the levels, from the coarsest to the finest.
    """
    return _Tree(tuple(weights))


@dataclass(frozen=True)
class _Tree:
    weights: tuple[float, ...]

    def __call__(self, mine: Tensor, theirs: Tensor) -> Tensor:
        sums = mine.new_zeros(len(mine), len(theirs), dtype=torch.float64)
        for level, weight in enumerate(self.weights):
            sums += weight * (mine[:, None, level] != theirs[None, :, level])
        return sums


def _of_values(question: Form, name: str, sides: list[Tensor], known: list[Tensor] | None) -> Rule:
    is_known = (None, None) if known is None else (known[0], known[-1])
    return asking(Question(question, {name: sides[0]}, {name: sides[1]} if len(sides) > 1 else None, is_known))


def _answer(said: Tensor) -> Answer:
    return (said, ~said) if said.dtype == torch.bool else (said > 0, said == 0)


def _whole_numbers(labels: Tensor) -> Tensor:
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise LabelError(
            f"A rule was given ids of shape {tuple(labels.shape)} and type {labels.dtype}.",
            hint="Pass one whole number for each example.",
            reference="label-shape",
        )
    return labels.long()
