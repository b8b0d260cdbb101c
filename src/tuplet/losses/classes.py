"""What the losses over vectors of the classes share: who owns the vectors, the checks of a call, and predictions."""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import Count
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.heads import ClassWeights, Head
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.inputs import ROWS, Checks, RowOptions, check_dim, check_embeddings, check_weights, row_ids


class ClassLoss(DeclaredLoss):
    """A declaration over learned vectors of the classes, one for each or several.

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
        "weight": Float[Tensor, "vectors dim"],
        "labels": Shaped[Tensor, " anchors"],
    }
    of_module: ClassVar[frozenset[str]] = frozenset({"num_classes", "dim", "seed", "processes"})

    def setup(self) -> None:
        """Draw the vectors of the classes."""
        self.classes = ClassWeights(self.num_classes, self.dim, seed=self.seed, **self.of_classes())

    def of_classes(self) -> dict[str, Any]:
        """How the vectors are kept: options of `tuplet.heads.ClassWeights`."""
        return {}

    @property
    def weight(self) -> Tensor:
        """Vectors of the classes, those of a class one after the other; if sharded, of this process's classes."""
        return self.classes.weight

    def logits(self, embeddings: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Scores of all classes without a margin, as a prediction reads them.

        All of them are held, rows × classes; of a sharded head those of this process's classes.

        Args:
            embeddings: (rows, dim).
        """
        check_embeddings(embeddings, "embeddings")
        check_dim(self.weight, embeddings, "head")
        cosines = normalise(embeddings) @ normalise(self.weight.to(embeddings.dtype)).T
        scale = self._scale()
        return self.of_centers(cosines.reshape(len(cosines), -1, self.classes.centers)) * (
            torch.linalg.vector_norm(embeddings, dim=1, keepdim=True) if scale is None else scale
        )

    def of_centers(self, cosines: Tensor) -> Tensor:
        """The cosine of a row with a class, from those with its vectors, (rows, classes, centers): the largest."""
        return cosines.amax(2)

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Vectors given as a tensor; what else the module keeps is given by its name."""
        embeddings, labels, weight = (inputs.pop(name) for name in ("embeddings", "labels", "weight"))
        vars(self)["classes"] = head_of(weight, {"sub_centers": vars(self).get("centers", 1), **sides})
        vars(self).update(inputs)
        return self._outcome(embeddings, labels, **sides)

    def checked(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> Tensor:
        """Labels of a call of which all is checked.

        Raises:
            ShapeError: If tensors do not fit.
            LabelError: If a label is no class; the message names the rows.
        """
        if labels is None:
            raise LabelError(
                f"{type(self).__name__} was called without labels.",
                hint="Pass the class id of each row, 0 to num_classes - 1.",
                reference="labels-missing",
            )
        checks = Checks(sides.get("execution"))
        check_embeddings(embeddings, "embeddings", checks)
        check_weights(sides.get("weights"), embeddings, checks)
        check_dim(self.weight, embeddings, "set of class weights")
        check_classes(labels, embeddings, self.classes.num_classes, checks)
        checks.done()
        return labels.long()

    def _scale(self) -> float | None:
        """Of all cosines; None for the length of the embedding."""
        return float(vars(self).get("scale", 1.0))


def head_of(weight: Tensor, options: Mapping[str, Any]) -> Head:
    """Class weights given as a tensor.

    Raises:
        ShapeError: If its rows cannot be dealt out to classes.
        LabelError: If `classes` holds what is no class.
    """
    centers, classes = options.get("sub_centers", 1), options.get("classes")
    if weight.ndim != 2 or centers < 1 or len(weight) % centers or not len(weight):
        raise ShapeError(
            f"weight has shape {tuple(weight.shape)}, with {centers} vectors for each class.",
            hint="Pass one row per class, or sub_centers rows for each class one after the other.",
            reference="head-size",
        )
    num_classes = len(weight) // centers
    if classes is not None:
        classes = classes.unique()
        if len(classes) and not 0 <= int(classes[0]) <= int(classes[-1]) < num_classes:
            raise LabelError(
                f"classes holds ids from {int(classes[0])} to {int(classes[-1])}; there are {num_classes} classes.",
                hint=f"Ids run from 0 to {num_classes - 1}.",
                reference="class-outside-head",
            )
    return Head(weight, num_classes, centers, classes, options.get("correction", False))


def check_classes(labels: Tensor, x: Tensor, num_classes: int, checks: Checks) -> None:
    """Refuse labels that are neither a class, 0 to num_classes - 1, nor -1.

    Raises:
        LabelError: See above.
    """
    labels = row_ids(labels, x, "labels")
    is_label = labels.clamp(-1, num_classes - 1) == labels

    def explain() -> None:
        rows = (~is_label).nonzero()[:, 0]
        shown = ", ".join(f"{row} ({labels[row]})" for row in rows[:10].tolist())
        raise LabelError(
            f"labels hold no class of this head in {len(rows)} of {len(x)} rows: {shown}"
            f"{f' and {len(rows) - 10} more' if len(rows) > 10 else ''}; there are {num_classes} classes.",
            hint=f"Number the classes from 0 to {num_classes - 1}; -1 leaves a row out.",
            reference="class-outside-head",
        )

    checks.require(is_label.all(), explain)


def row_weights(labels: Tensor, weights: Tensor | None, like: Tensor) -> Tensor:
    """One number for each row: rows without a label stay, with a weight of 0."""
    return torch.where(labels != -1, like.new_ones(()) if weights is None else weights, 0.0)
