"""Class weights: one learned vector for each class, or several; whole or sharded; all or a sample in each step.

Weights are scaled to length one tile by tile, so that a head of any size needs no copy of them.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import embedding

from tuplet.engine.gather import SINGLE_PROCESS, Processes
from tuplet.engine.shards import Shards
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.seeding import derive, normal_rows

EPS = 1e-12
"""Class weights no longer than this have no direction: their cosine is taken as it is, their gradient is 0."""

MOST_CENTERS = 255
"""The nearest center of each entry of a tile is remembered in one byte."""


@dataclass(frozen=True)
class _Memo:
    units: Tensor  # (classes, centers, dim), length one
    rate: Tensor  # (classes, centers, 1), 1 / length; 0 where there is no direction
    which: Tensor | None  # (rows, classes), the center that gave the score; None if there is one


@dataclass(frozen=True)
class NearestCenter:
    """Cosine of an anchor with the nearest center of a class; among equals the first.

    References are (classes, centers, dim) of any length. Scores times a factor come from anchors times that factor,
    so it must
    not be negative.
    """

    kind: Literal["similarity", "distance"] = "similarity"
    peak: float | None = 1.0
    similarity_offset: float = 1.0
    narrow: bool = True

    def prepare(self, anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the anchors to length one; class weights wait for their tile."""
        return normalise(anchors), references

    def scores(self, a: Tensor, r: Tensor, out: Tensor) -> _Memo:
        """One matrix product per center."""
        length = torch.linalg.vector_norm(r, dim=2, keepdim=True)
        rate = length.clamp_min(EPS).reciprocal_()
        units = r * rate
        rate.masked_fill_(length <= EPS, 0)
        torch.mm(a, units[:, 0].T, out=out)
        which, other = None, None
        for center in range(1, r.shape[1]):
            if which is None or other is None:
                which, other = torch.zeros_like(out, dtype=torch.uint8), torch.empty_like(out)
            torch.mm(a, units[:, center].T, out=other)
            which.masked_fill_(other > out, center)
            torch.maximum(out, other, out=out)
        return _Memo(units, rate, which)

    def backward(
        self, grad_scores: Tensor, memo: _Memo, a: Tensor, r: Tensor, grad_a: Tensor | None, grad_r: Tensor | None
    ) -> None:
        """Two matrix products per center; what is along a class weight changes its length only and is left out."""
        for center in range(r.shape[1]):
            part = grad_scores if memo.which is None else grad_scores * (memo.which == center)
            unit = memo.units[:, center]
            if grad_a is not None:
                grad_a.addmm_(part, unit)
            if grad_r is not None:
                grad_units = part.T @ a
                grad_units.addcmul_(torch.linalg.vecdot(grad_units, unit)[:, None], unit, value=-1)
                grad_r[:, center].addcmul_(grad_units, memo.rate[:, center])

    def pick(self, r: Tensor, memo: _Memo, rows: Tensor, cols: Tensor) -> Tensor:
        """The nearest center, scaled to length one."""
        del r
        return memo.units[cols, 0 if memo.which is None else memo.which[rows, cols].long()]

    def place(self, grad_r: Tensor, memo: _Memo, rows: Tensor, cols: Tensor, entry_grads: Tensor) -> None:
        """To the nearest center; `entry_grads` are orthogonal to it."""
        center = 0 if memo.which is None else memo.which[rows, cols].long()
        grad_r.flatten(0, 1).index_add_(0, cols * grad_r.shape[1] + center, entry_grads * memo.rate[cols, center])


@dataclass(frozen=True)
class Head:
    """Class weights as one step sees them.

    Args:
        weight: Vectors of the classes from `first` on, (classes · centers, dim); class j owns `centers` rows from j
            · centers on.
        num_classes: How many classes there are, in all processes.
        centers: Vectors for each class.
        classes: Sorted ids of the classes that take part; None for all.
        correction: Correct the scores of sampled classes by log(1 / sampling probability).
        first: First class of this process.
        shards: Who owns the other classes.
    """

    weight: Float[Tensor, "vectors dim"]
    num_classes: int
    centers: int = 1
    classes: Int[Tensor, " sampled"] | None = None
    correction: bool = False
    first: int = 0
    shards: Processes = SINGLE_PROCESS

    @property
    def own(self) -> Tensor | None:
        """Which of this process's classes take part, counted from `first`; None for all."""
        if self.classes is None:
            return None
        own = self.classes - self.first
        return own[(own >= 0) & (own < len(self.weight) // self.centers)]

    def references(self) -> Tensor:
        """(classes, centers, dim); where classes were drawn, only their rows get a gradient, a sparse one."""
        own, dim = self.own, self.weight.shape[1]
        if own is None:
            return self.weight.reshape(-1, self.centers, dim)
        rows = own[:, None] * self.centers + torch.arange(self.centers, device=own.device)
        return embedding(rows, self.weight, sparse=True)

    def partners(self, labels: Tensor) -> Tensor:
        """Position of each label among the references, -1 if another process or nobody has it.

        Raises:
            LabelError: If the class of a label does not take part.
        """
        own, classes = self.own, self.classes
        if own is None or classes is None:
            own_labels = labels - self.first
            return own_labels.masked_fill((own_labels < 0) | (own_labels * self.centers >= len(self.weight)), -1)
        missing = (labels != -1) & ~torch.isin(labels, classes)
        if bool(missing.any()):
            raise LabelError(
                f"Class {int(labels[missing][0])} occurs in the batch but is not among the classes that take part.",
                hint="Draw with `draw_classes`, or add every class of the batch, of all processes, to classes.",
                reference="class-not-sampled",
            )
        at = torch.searchsorted(own, labels - self.first)
        found = at < len(own)
        return at.masked_fill(~found | (own[at.where(found, 0)] != labels - self.first), -1) if len(own) else at * 0 - 1

    def offset(self, labels: Tensor) -> Tensor | None:
        """What raises the score of each reference that no label of the global batch names, (references,)."""
        own = self.own
        if own is None or self.classes is None or not self.correction:
            return None
        present = labels[labels != -1].unique()  # type: ignore[no-untyped-call]
        sampled, left = len(self.classes) - len(present), self.num_classes - len(present)
        raised = math.log(left / sampled) if sampled else 0.0
        offset = torch.full(own.shape, raised, dtype=torch.float64, device=own.device)
        return offset.masked_fill(torch.isin(own + self.first, present), 0)


class ClassWeights(Shards):
    """The learned vectors of all classes, or those of this process's range.

    Args:
        num_classes: How many classes there are, at least 1.
        dim: Length of a vector.
        centers: Vectors for each class.
        sample_rate: Share of the classes in a step, in (0, 1]: those of the batch, and of the others as many as are
            missing.
            Below 1 the gradient of `weight` is sparse: give it an optimiser that leaves other rows alone
            (SparseAdam, or SGD
            without momentum and weight decay), apart from DistributedDataParallel and gradient clipping.
        correction: See `Head`.
        shards: Processes that own a range of classes each; `state_dict` holds all ranges, so all must ask for it
            together, and
            any number of processes can load it. Keep the parameter apart from DistributedDataParallel.
        seed: Of the first weights and of the draws.
    """

    table: ClassVar[str] = "weight"
    calls: Tensor

    def __init__(
        self,
        num_classes: int,
        dim: int,
        centers: int = 1,
        *,
        sample_rate: float = 1.0,
        correction: bool = False,
        shards: Processes = SINGLE_PROCESS,
        seed: int = 0,
    ) -> None:
        super().__init__(num_classes, shards)
        if num_classes < shards.size or dim < 1 or not 1 <= centers <= MOST_CENTERS or not 0 < sample_rate <= 1:
            raise ShapeError(
                f"{num_classes} classes of {centers} vectors of length {dim}, sampled at {sample_rate}, in "
                f"{shards.size} shards, were asked for.",
                hint=(
                    f"Use at least one class per shard and one dimension, 1 to {MOST_CENTERS} centers, and a "
                    f"sample_rate in (0, 1]."
                ),
                reference="head-size",
            )
        self.num_classes, self.centers, self.sample_rate, self.correction = (
            num_classes,
            centers,
            sample_rate,
            correction,
        )
        self.seed = seed
        sampled = normal_rows(self.first, self.first + self.units, centers * dim, seed, "class weights")
        self.weight = nn.Parameter(sampled.mul_(1 / math.sqrt(dim)).reshape(-1, dim))  # of length about one
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def head(self, labels: Shaped[Tensor, " anchors"]) -> Head:
        """What a step compares with.

        Args:
            labels: Classes of the global batch; -1 for none.
        """
        classes = None
        if self.is_sampled:
            present = labels[labels != -1].unique()  # type: ignore[no-untyped-call]
            generator = derive(self.seed, "classes", int(self.calls))
            classes = draw_classes(present, self.num_classes, self.sample_rate, generator)
        weight: Tensor = self.weight
        if hasattr(weight, "full_tensor"):  # torch's DTensor: gathered for the step, its gradient is dealt out
            weight = weight.full_tensor()
        return Head(weight, self.num_classes, self.centers, classes, self.correction, self.first, self.shards)

    @property
    def is_sampled(self) -> bool:
        """True if the gradient of `weight` is sparse."""
        return self.sample_rate < 1


def draw_classes(
    present: Int[Tensor, " present"], num_classes: int, sample_rate: float, generator: torch.Generator
) -> Int[Tensor, " sampled"]:
    """The classes of a batch, and others drawn uniformly until there are `sample_rate` · `num_classes`.

    Args:
        present: Sorted ids of the classes in the batch; all are kept, and at least one other where there is one.
        num_classes: How many classes there are.
        sample_rate: Share of the classes, in (0, 1].
        generator: On the CPU.

    Returns:
        Sorted ids.
    """
    others = num_classes - len(present)
    wanted = min(others, max(1, round(sample_rate * num_classes) - len(present)))
    sampled = _distinct(wanted, others, generator).to(present.device)
    # the j-th class that is not present lies behind as many present ones as have no more than j absent ones before them
    absent_before = present - torch.arange(len(present), device=present.device)
    sampled += torch.searchsorted(absent_before, sampled, right=True)
    return torch.cat([present, sampled]).sort().values


def _distinct(count: int, total: int, generator: torch.Generator) -> Tensor:
    """`count` different numbers below `total`, each set as likely as any other, without a list of all."""
    if 2 * count >= total:
        return torch.randperm(total, generator=generator)[:count]
    sampled = torch.empty(0, dtype=torch.int64)
    while True:
        sampled = torch.cat([sampled, torch.randint(total, (count + 1,), generator=generator)])
        values, order = sampled.sort(stable=True)
        is_first = torch.cat([torch.tensor([True]), values[1:] != values[:-1]])
        if int(is_first.sum()) >= count:
            return sampled[order[is_first].sort().values[:count]]
