"""Relational distillation: distances of pairs, and angles of triples, as a teacher has them.

Distances are a row program. An angle is of three rows, which no program over pairs sees: its terms are computed for
some vertices at a time, and again in backward.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tuplet.engine import SINGLE_PROCESS, Processes, gather, stream
from tuplet.engine.execution import DEFAULT
from tuplet.engine.gather import all_gather, all_reduce_sum, first_row, reduce_sum, shared
from tuplet.engine.program import Found, Mean, Pair, Program, Term, count, total
from tuplet.engine.rowwise import rowwise
from tuplet.engine.tiles import spans
from tuplet.geometry import normalise
from tuplet.losses.inputs import options_of
from tuplet.relation import Graded
from tuplet.tensors import wide_dtype


@dataclass(frozen=True, eq=False)
class Both:
    """Rows of a student and of its teacher, all of length one; those of references are of all processes.

    Args:
        x: Anchors of the student.
        others: What they are compared with.
        teacher: The teacher's anchors, constants.
        their: The teacher's references.
        first: Position of anchor 0 among the references; None for two sets.
        sides: Of the call.
    """

    x: Tensor
    others: Tensor
    teacher: Tensor
    their: Tensor
    first: int | None
    sides: Mapping[str, Any]

    @staticmethod
    def of(x: Tensor, references: Tensor | None, teacher: Tensor, theirs: Tensor, sides: Mapping[str, Any]) -> "Both":
        """From the rows of this process."""
        processes, wide = sides.get("processes", SINGLE_PROCESS), wide_dtype(x)
        mine = normalise(x.to(wide))
        others = mine if references is None else normalise(references.to(wide))
        first = first_row(len(x), processes, x.device) if references is None else None
        known = normalise(teacher.to(wide)), all_gather(normalise(theirs.to(wide)), processes)
        return Both(mine, gather(others, processes), *known, first, sides)

    @property
    def processes(self) -> Processes:
        """Who computes together."""
        found: Processes = self.sides.get("processes", SINGLE_PROCESS)
        return found

    @property
    def entries(self) -> int:
        """How many numbers may be held at once."""
        execution = self.sides.get("execution") or DEFAULT
        return self.sides.get("tile_size") or execution.entries(self.x.new_empty(0))


def distances(both: Both) -> Tensor:
    r"""Mean of $l(d^s_{ij} / \mu^s - d^t_{ij} / \mu^t)$ over the pairs of all processes, l as in Huber's loss.

    Distances are Euclidean, between unit vectors; μ are their means over the same pairs, and have a gradient too.
    """
    relation = Graded(both.teacher, both.their, _euclidean, first=both.first)
    means = []
    for a, r in ((both.x, both.others), (both.teacher, both.their)):
        sums, pairs = rowwise(_sums, a, r, relation, "euclidean", entries=both.entries, summed=True)
        pairs = all_reduce_sum(pairs, both.processes)
        mean = reduce_sum(sums, both.processes) / torch.where(pairs > 0, pairs, 1.0)
        means.append(torch.where(mean > 0, mean, 1.0))
    student = shared(means[0], both.processes).expand(len(both.x))
    of_row = {"student": student, "teacher": means[1].detach().expand(len(both.x))}
    options = {**options_of(both.sides), "weights": both.sides.get("weights"), "stats": False, "of_row": of_row}
    return stream(_Distances(), both.x, both.others, relation, "euclidean", **options).value


def angles(both: Both) -> Tensor:
    r"""Mean of $l(\cos\angle^s_{ijk} - \cos\angle^t_{ijk})$ over vertices j and ordered pairs of two others, i and k.

    $$\cos\angle_{ijk} = e_{ij} \cdot e_{kj}, \quad e_{ij} = (x_i - x_j) / \lVert x_i - x_j \rVert$$

    O(anchors · references² · dim); memory is that of a tile.
    """
    size, given = len(both.others), both.sides.get("weights")
    weights = both.x.new_ones(len(both.x)) if given is None else given.to(both.x)
    number = size * (size - 1) if both.first is None else (size - 1) * (size - 2)
    found = both.x.new_zeros(())
    for rows in spans(len(both.x), both.entries // max(1, size * max(size, both.x.shape[1]))):
        for cols in spans(size, both.entries // max(1, size * (rows.stop - rows.start))):
            found = found + checkpoint(
                _of_vertices, both, both.x, both.others, weights, rows, cols, use_reentrant=False
            )
    everyone = all_reduce_sum(weights.sum(), both.processes) * max(0, number)
    return reduce_sum(found, both.processes) / torch.where(everyone > 0, everyone, 1.0)


def _of_vertices(both: Both, x: Tensor, others: Tensor, weights: Tensor, rows: slice, cols: slice) -> Tensor:
    """Sum over some vertices, some i, and all k."""
    student, teacher = (
        edges[:, cols] @ edges.transpose(1, 2)
        for edges in (normalise(b[None] - a[rows, None]) for a, b in ((x, others), (both.teacher, both.their)))
    )
    place = torch.arange(len(others), device=x.device)
    counted = (place[cols, None] != place)[None]
    if both.first is not None:
        vertex = (torch.arange(len(x), device=x.device)[rows] + both.first)[:, None, None]
        counted = counted & (place[cols, None] != vertex) & (place != vertex)
    terms = torch.where(counted, _huber(student - teacher), 0.0)
    return (terms.sum((1, 2)) * weights[rows]).sum()


@dataclass(frozen=True)
class _Distances(Program):
    """Distances over their mean; label distances are those of the teacher."""

    reads = "distance"

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Huber's loss of the difference."""
        assert pair.distance is not None  # noqa: S101  # the relation has them
        apart = score / pair.of_row["student"] - pair.distance.to(score) / pair.of_row["teacher"]
        return {"loss": total(_huber(apart), where=pair.negative), "pairs": count(pair.negative)}

    def finish(self, found: Found) -> Mean:
        """Each pair counts."""
        return Mean(found["loss"], found["pairs"])


def _huber(x: Tensor) -> Tensor:
    size = x.abs()
    return torch.where(size <= 1, x * x / 2, size - 0.5)


def _euclidean(mine: Tensor, theirs: Tensor) -> Tensor:
    """Of unit vectors."""
    return (2 - 2 * (mine @ theirs.T)).clamp_min(0).sqrt()


def _sums(distance: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
    return torch.where(pair.negative, distance, 0.0).sum(), pair.negative.sum().to(distance)
