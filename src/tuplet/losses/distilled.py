"""Distillation: the rows of a student's scores after those of a teacher, beside whatever the loss wants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tuplet.bounds import NotNegative, Tau, bounded
from tuplet.engine import SINGLE_PROCESS, Outcome, gather, stream
from tuplet.engine.gather import all_gather, first_row
from tuplet.engine.program import Found, Mean, Pair, Program, Term, lse, total
from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.losses.base import MetricLoss
from tuplet.losses.inputs import check_dim, check_embeddings, check_weights, options_of
from tuplet.losses.relational import Both, angles, distances
from tuplet.losses.wrappers import WrappedLoss
from tuplet.relation import Graded

TEACHER = frozenset({"teacher", "reference_teacher"})


class DistilledLoss(WrappedLoss):
    r"""A loss, and how far the similarities of each anchor are from those that a teacher gives it.

    $$L + \lambda\, \frac{1}{B} \sum_i \sum_j p_{ij} \log \frac{p_{ij}}{q_{ij}}, \quad
    p_i = \mathrm{softmax}_j \frac{\hat t_i \cdot \hat t_j}{\tau}, \quad
    q_i = \mathrm{softmax}_j \frac{\hat x_i \cdot \hat x_j}{\tau}$$

    j goes over all other rows of the batch, or over the references where there are some; a queue is not among them.
    Two terms may be added, over the same rows: Huber's loss of the differences of distances over their means, and of
    cosines of the angle at each row between two others, all of unit vectors.

    $$\lambda_D\, \mathbb{E}_{i,j}\; l\Big(\frac{d^t_{ij}}{\mu^t} - \frac{d^x_{ij}}{\mu^x}\Big) +
    \lambda_A\, \mathbb{E}_{i,j,k}\; l\big(\cos\angle t_i t_j t_k - \cos\angle x_i x_j x_k\big)$$

    A call takes the teacher's embeddings, which are constants of any length: `teacher=` of the anchors, and
    `reference_teacher=` of the references.

    Args:
        loss: L.
        weight: λ, at least 0.
        temperature: τ > 0, of both.
        distances: Weight of the distances, λ_D.
        angles: Weight of the angles, λ_A; they cost O(B³ dim).

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2, whose factor τ² is in λ
        here; Tejankar et al., "ISD: Self-Supervised Learning by Iterative Similarity Distillation", 2021; Park, Kim,
        Lu, Cho, "Relational Knowledge Distillation", 2019, eq. 4 to 9.
    """

    @bounded
    def __init__(
        self,
        loss: MetricLoss,
        weight: NotNegative = 1.0,
        temperature: Tau = 0.05,
        distances: NotNegative = 0.0,
        angles: NotNegative = 0.0,
    ) -> None:
        super().__init__(loss)
        self.weight, self.temperature, self.distances, self.angles = weight, temperature, distances, angles
        self.takes = loss.takes | TEACHER  # type: ignore[misc]  # each has those of its own

    def _with_own(self, sides: dict[str, Any]) -> dict[str, Any]:
        taught = {name: sides[name] for name in TEACHER & sides.keys()}
        return super()._with_own({name: side for name, side in sides.items() if name not in taught}) | taught

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        taught = {name: sides.pop(name, None) for name in TEACHER}
        outcome = self.loss._outcome(embeddings, labels, **sides)  # noqa: SLF001  # as if it had been called
        added = self.weight * divergence(embeddings, taught, sides, self.temperature)
        if self.distances or self.angles:
            mine, theirs = taught["teacher"], taught["reference_teacher"]
            assert mine is not None  # noqa: S101  # checked above
            references = sides.get("references")
            both = Both.of(embeddings, references, mine, mine if theirs is None else theirs, sides)
            added = added + (self.distances * distances(both) if self.distances else 0)
            added = added + (self.angles * angles(both) if self.angles else 0)
        count = torch.where(outcome.count > 0, outcome.count, 1)  # a teacher knows rows without labels too
        return Outcome(outcome.total + added * count.to(added.dtype), count, outcome.stats)


def divergence(x: Tensor, taught: Mapping[str, Tensor | None], sides: Mapping[str, Any], temperature: float) -> Tensor:
    """Mean of the Kullback-Leibler divergences of the rows of all processes.

    Args:
        x: Embeddings, (rows, dim).
        taught: The teacher's, of anchors and of references.
        sides: References, weights, processes, execution and tile size of the call.
        temperature: τ.

    Raises:
        LabelError: If the teacher's rows are not those of the call.
    """
    references, processes = sides.get("references"), sides.get("processes", SINGLE_PROCESS)
    teacher = _checked(taught["teacher"], x, "teacher")
    others = x if references is None else references
    theirs = teacher if references is None else _checked(taught["reference_teacher"], others, "reference_teacher")
    check_dim(theirs, teacher, "teacher's set of references")
    check_dim(others, x, "set of references")
    check_weights(sides.get("weights"), x)
    mine, everyone = normalise(teacher), all_gather(normalise(theirs), processes)
    first = first_row(len(x), processes, x.device) if references is None else None
    relation = Graded(mine, everyone, apart, first=first)
    options = {**options_of(sides), "weights": sides.get("weights"), "stats": False}
    return stream(_Rows(temperature), x, gather(others, processes), relation, "cosine", **options).value


def apart(mine: Tensor, theirs: Tensor) -> Tensor:
    """One less the cosines of unit vectors."""
    return (1 - mine @ theirs.T).clamp_min(0)


def _checked(teacher: Tensor | None, x: Tensor, name: str) -> Tensor:
    if teacher is None or len(teacher) != len(x):
        found = "is missing" if teacher is None else f"has {len(teacher)} rows for {len(x)} embeddings"
        raise LabelError(
            f"{name} {found}.",
            hint="Pass teacher=, its embedding of each row, and reference_teacher= where there are references.",
            reference="teacher",
        )
    check_embeddings(teacher, name)
    return teacher.detach().to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class _Rows(Program):
    """The divergence of two softmaxes over a row; label distances are those of the teacher."""

    temperature: float = 0.05
    means: ClassVar[int] = 1

    def _teacher(self, score: Tensor, pair: Pair) -> Tensor:
        assert pair.distance is not None  # noqa: S101  # the relation has them
        return (1 - pair.distance.to(score)) / self.temperature

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """What both softmaxes divide by."""
        teacher = torch.where(pair.negative, self._teacher(score, pair), -torch.inf)
        return {
            "student": lse(score / self.temperature, where=pair.negative),
            "teacher": Term(teacher, "lse"),
        }

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """What the teacher expects of the difference of exponents."""
        teacher = self._teacher(score, pair) - torch.where(found["teacher"] > -torch.inf, found["teacher"], 0.0)
        expected = teacher.exp() * (teacher - score / self.temperature)
        return {"expected": total(expected, where=pair.negative)}

    def finish(self, found: Found) -> Mean:
        """Rows that meet no other are not counted."""
        there = found["student"] > -torch.inf
        return Mean(torch.where(there, found["expected"] + torch.where(there, found["student"], 0.0), 0.0), there)
