"""Losses over class weights as row programs: the own class is scored by itself, all others in tiles.

The score of an example with its own class is one number per row, computed here with its angle, so that it may depend on
whatever is known of the row: its norm, a margin drawn for it. A program reads it as `pair.of_row["own"]`.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tuplet.bounds import Count
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, stream
from tuplet.engine.gather import all_reduce_sum, shared
from tuplet.engine.program import Found, Mean, Pair, Term, lse, softplus
from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.heads import ClassWeights, NearestCenter
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.head import RowOptions, check_classes
from tuplet.losses.inputs import ROWS, Checks, check_dim, check_embeddings, check_weights
from tuplet.losses.pending import Call
from tuplet.margin import angles
from tuplet.relation import Paired

MOST_ROWS = 2**16
"""Rows of a step that a running mean takes in; of more the latest, so that a loop that never advances holds no more."""


class TargetHeadLoss(DeclaredLoss):
    """A declaration over class weights whose program reads the score of the own class as a value of the row.

    Inputs:
        weight: Vectors of the classes; their length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        seed: Of the first weights.
        processes: Who computes the loss together.
    """

    num_classes: Count
    dim: Count
    _: KW_ONLY
    seed: int = 0
    processes: Processes = SINGLE_PROCESS

    family = "softmax-based"
    divides_by = "the rows with a label"
    fixed_geometry = "cosine"
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
    }
    of_module: ClassVar[frozenset[str]] = frozenset({"num_classes", "dim", "seed", "processes"})

    def setup(self) -> None:
        """Draw the class weights."""
        self.classes = ClassWeights(self.num_classes, self.dim, seed=self.seed)

    @property
    def weight(self) -> nn.Parameter:
        """Vectors of the classes, (classes, dim)."""
        return self.classes.weight

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Class weights given as a tensor; what else the module keeps is given by its name."""
        embeddings, labels = inputs.pop("embeddings"), inputs.pop("labels")
        vars(self)["classes"] = _Given(inputs.pop("weight"))
        vars(self).update(inputs)
        return self._outcome(embeddings, labels, **sides)

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

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Mass of the other classes."""
        return {"others": lse(vars(self)["scale"] * score, where=pair.negative)}

    def finish(self, found: Found) -> Mean:
        """Cross-entropy of the own class against all."""
        return cross_entropy(found, vars(self)["scale"])

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        labels = self._checked(embeddings, labels, sides)
        execution, processes = sides.get("execution"), sides.get("processes", SINGLE_PROCESS)
        labels, weights = labels.long(), sides.get("weights")  # rows without a class stay, with a weight of 0
        weights = (labels != -1).to(embeddings) if weights is None else torch.where(labels != -1, weights, 0.0)
        weight: Tensor = shared(self.classes.weight, processes)
        wide = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float32)
        embeddings = embeddings.to(wide)
        with torch.autocast(embeddings.device.type, enabled=False):
            angle = angles(normalise(embeddings), normalise(weight[labels.clamp_min(0)].to(wide)))
            values = self.of_rows(embeddings, angle, labels, processes)
        return stream(
            self.program(),
            embeddings,
            weight.reshape(len(weight), 1, -1),
            Paired(labels, len(weight)),
            NearestCenter(),
            weights=weights,
            of_row=values,
            tile_size=sides.get("tile_size"),
            processes=processes,
            stats=sides.get("stats", False),
            execution=execution,
        )

    def _num_classes(self) -> int:
        """One vector each."""
        return len(self.classes.weight)

    def _checked(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> Tensor:
        if labels is None:
            raise LabelError(
                f"{type(self).__name__} was called without labels.",
                hint="Pass the class id of each row, 0 to num_classes - 1.",
                reference="labels-missing",
            )
        checks = Checks(sides.get("execution"))
        check_embeddings(embeddings, "embeddings", checks)
        check_weights(sides.get("weights"), embeddings, checks)
        check_dim(self.classes.weight, embeddings, "set of class weights")
        check_classes(labels, embeddings, self._num_classes(), checks)
        checks.done()
        return labels


class _Given(nn.Module):
    """Class weights that a call of the function brings along."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        vars(self)["weight"] = weight


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
