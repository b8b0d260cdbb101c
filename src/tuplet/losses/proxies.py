"""Losses whose rows are one learned vector for each class, a proxy, and whose columns are the examples of the batch."""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tuplet.bounds import Count
from tuplet.engine import SINGLE_PROCESS, Processes, gather
from tuplet.engine.gather import all_gather, shared
from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.head import RowOptions, check_classes
from tuplet.losses.inputs import (
    ROWS,
    Checks,
    PairBatch,
    check_dim,
    check_embeddings,
    check_weights,
    known,
    options_of,
)
from tuplet.relation import SameLabel
from tuplet.seeding import normal_rows


class ProxyLoss(DeclaredLoss):
    """A declaration over class proxies; its program reads examples as the columns of a row.

    A program finds the logarithm of an example's weight, relative to the mean of all, as `pair.of_col["log_weight"]`
    where weights were given.

    Inputs:
        proxies: One vector per class; its length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        seed: Of the first proxies.
        processes: Who computes the loss together.
    """

    num_classes: Count
    dim: Count
    _: KW_ONLY
    seed: int = 0
    processes: Processes = SINGLE_PROCESS

    family = "softmax-based"
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "proxies": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
    }
    of_module: ClassVar[frozenset[str]] = frozenset({"num_classes", "dim", "seed", "processes"})
    fixed_geometry = "cosine"

    def setup(self) -> None:
        """Draw the proxies."""
        self.proxies = nn.Parameter(normal_rows(0, self.num_classes, self.dim, self.seed, "class proxies"))

    def logits(self, embeddings: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Cosines with the proxies of all classes; all of them are held.

        Args:
            embeddings: (rows, dim).
        """
        check_embeddings(embeddings, "embeddings")
        check_dim(self.proxies, embeddings, "set of proxies")
        return normalise(embeddings) @ normalise(self.proxies.to(embeddings.dtype)).T

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Proxies, dealt out to the processes, against the examples of all of them."""
        if labels is None:
            raise LabelError(
                f"{type(self).__name__} was called without labels.",
                hint="Pass the class id of each row, 0 to num_classes - 1.",
                reference="labels-missing",
            )
        processes, execution, weights = (
            sides.get("processes", SINGLE_PROCESS),
            sides.get("execution"),
            sides.get("weights"),
        )
        checks = Checks(execution)
        check_embeddings(embeddings, "embeddings", checks)
        check_weights(weights, embeddings, checks)
        check_dim(self.proxies, embeddings, "set of proxies")
        check_classes(labels, embeddings, len(self.proxies), checks)
        checks.done()
        embeddings, labels, weights = known(embeddings, labels.long(), weights, execution)
        gathered, theirs = gather(embeddings, processes), all_gather(labels, processes)
        weights = None if weights is None else all_gather(weights, processes)
        count, parts, part = len(self.proxies), processes.size, processes.rank
        if count < parts:  # each has all of them: sums and what they are divided by are multiples
            parts, part = 1, 0
        mine = slice(count * part // parts, count * (part + 1) // parts)
        classes = torch.arange(count, device=theirs.device)[mine]
        proxies = shared(self.proxies, processes)[mine]
        return PairBatch(proxies, gathered, SameLabel(classes, theirs), weights, 0, options_of(sides))

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """Weights as shifts of exponents."""
        del processes
        if problem.weights is None:
            return {}
        wide = torch.promote_types(problem.references.dtype, torch.float32)
        here = (problem.relation.reference_labels != -1).to(wide)  # type: ignore[attr-defined]  # it is SameLabel
        weights = problem.weights.to(wide)
        mean = (weights * here).sum() / here.sum().clamp_min(1)
        relative = weights / torch.where(mean > 0, mean, 1.0)
        return {
            "of_col": {"log_weight": torch.where(relative > 0, relative, 1.0).log().where(relative > 0, -torch.inf)}
        }
