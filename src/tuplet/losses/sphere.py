"""Losses that read Euclidean distances of unit vectors."""

from dataclasses import replace

from tuplet.engine import Outcome, Processes, stream
from tuplet.geometry import normalise
from tuplet.losses.declare import PairLoss
from tuplet.losses.inputs import PairBatch


class SphereLoss(PairLoss):
    r"""A declaration over pairs whose program reads $D = \lVert \hat x - \hat y \rVert$, which lies between 0 and 2.

    D decreases with the cosine, so that training, validation and search compare by it; D itself is not computed from
    the cosine, which has lost the digits of a small distance.
    """

    fixed_geometry = "cosine"
    reads = "distance"

    def _streamed(self, problem: PairBatch, processes: Processes) -> Outcome:
        problem = on_sphere(problem)
        values = self.values(problem, processes) | problem.stream_options
        sets = problem.anchors, problem.references, problem.relation
        return stream(self.program(problem), *sets, "euclidean", **values)


def on_sphere(problem: PairBatch) -> PairBatch:
    """The same with rows of length one; one set stays one tensor."""
    anchors = normalise(problem.anchors)
    is_one = problem.references is problem.anchors
    return replace(problem, anchors=anchors, references=anchors if is_one else normalise(problem.references))
