"""Losses over class weights as row programs: the own class is scored by itself, all others in tiles.

The score of an example with its own class is one number per row, computed here with its angle, so that it may depend on
whatever is known of the row: its norm, a margin drawn for it. A program reads it as `pair.of_row["own"]`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, stream
from tuplet.engine.gather import all_reduce_sum, shared
from tuplet.engine.program import Found, Mean, Pair, Term, lse, softplus
from tuplet.geometry import normalise
from tuplet.heads import NearestCenter
from tuplet.losses.classes import ClassLoss, row_weights
from tuplet.losses.inputs import options_of
from tuplet.losses.pending import Call
from tuplet.margin import angles
from tuplet.relation import Paired
from tuplet.tensors import wide_dtype

MOST_ROWS = 2**16
"""Rows of a step that a running mean takes in; of more the latest, so that a loop that never advances holds no more."""


class TargetHeadLoss(ClassLoss):
    """A declaration over class weights whose program reads the score of the own class as a value of the row."""

    def of_own(self, embeddings: Tensor, weight: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """Values of the rows by name, from the vectors of all classes."""
        own = weight[labels.clamp_min(0)].to(embeddings.dtype)
        angle = angles(normalise(embeddings), normalise(own))
        return self.of_rows(embeddings, angle, labels, processes)

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """Values of the rows by name, `own` among them: the cosine with the own class after its margin.

        Args:
            embeddings: As given.
            angle: Of each with the weight of its own class, differentiable; where there is none, of class 0.
            labels: Class ids, -1 for none.
            processes: Who computes together.
        """
        del embeddings, labels, processes
        return {"own": angle.cos()}

    def sampled(self, labels: Tensor, sides: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Values of the rows, and of the classes, that chance decides; by name, none of them differentiable.

        Args:
            labels: Class ids, -1 for none.
            sides: Of the call.
        """
        del labels, sides
        return {}, {}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Mass of the other classes."""
        return {"others": lse(vars(self)["scale"] * score, where=pair.negative)}

    def finish(self, found: Found) -> Mean:
        """Cross-entropy of the own class against all."""
        return cross_entropy(found, vars(self)["scale"])

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        labels, processes = self.checked(embeddings, labels, sides), sides.get("processes", SINGLE_PROCESS)
        weight = shared(self.weight, processes)
        wide = wide_dtype(embeddings, weight)
        embeddings = embeddings.to(wide)
        with torch.autocast(embeddings.device.type, enabled=False):
            values = self.of_own(embeddings, weight, labels, processes)
        of_row, of_col = self.sampled(labels, sides)
        return stream(
            self.program(),
            embeddings,
            weight.reshape(len(weight), 1, -1),
            Paired(labels, len(weight)),
            NearestCenter(),
            weights=row_weights(labels, sides.get("weights"), embeddings),
            of_row=values | of_row,
            of_col=of_col,
            **options_of(sides),
        )


def cross_entropy(found: Found, scale: float) -> Mean:
    """Of the own class against the mass of the others."""
    own = scale * found["own"]
    return Mean(softplus(found["others"] - own), torch.ones_like(own))


def mean_and_deviation(calls: list[Call], notes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Over the rows of a step that have a label, of all processes: mean, standard deviation, and how many there are.

    Args:
        calls: Of the step.
        notes: A number of each row, for each call.
    """
    rows = torch.cat([note.double() for note in notes])
    there = torch.cat([call.labels != -1 for call in calls if call.labels is not None])
    kept, processes = torch.where(there, rows, 0.0), calls[0].processes
    total, count = all_reduce_sum(torch.stack([kept.sum(), there.sum().double()]), processes)
    mean = total / count.clamp_min(1)
    squares = all_reduce_sum(torch.where(there, (rows - mean).square(), 0.0).sum(), processes)
    return mean, (squares / (count - 1).clamp_min(1)).sqrt(), count


def beyond(angle: Tensor) -> Tensor:
    """The cosine, and from π on -2 - cos: it goes on falling."""
    return torch.where(angle > torch.pi, -2 - angle.cos(), angle.cos())
