"""Losses without negatives, over the variances and correlations of features: VICReg and Barlow Twins.

They compare columns and not rows, so there is no matrix of pairs: sums of squares and products over the rows of all
processes are all that they need. A mean is a constant in their gradient, since the products of deviations do not change
with it at the mean; one process differentiates it all the same, so that second derivatives are right there.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.bounds import NotNegative, Positive
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes
from tuplet.engine.gather import all_reduce_sum, reduce_sum
from tuplet.errors import LabelError, ShapeError
from tuplet.losses.declare import DeclaredLoss, register
from tuplet.losses.inputs import ROWS, Checks, RowOptions, check_embeddings, check_weights
from tuplet.tensors import wide_dtype


class FeatureLoss(DeclaredLoss):
    """A declaration over the features of two views of each example.

    Inputs:
        embeddings: First views.
        references: Second views; row i belongs to row i.

    Args:
        processes: Who computes the loss together.
    """

    _: KW_ONLY
    processes: Processes = SINGLE_PROCESS

    family = "instance-level"
    supervision = "pair"
    fixed_geometry = "cosine"
    divides_by = "nothing: it is one number for all rows"
    takes: ClassVar[frozenset[str]] = (ROWS | {"references"}) - {"tile_size"}
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "references": Float[Tensor, "anchors dim"],
    }
    of_module: ClassVar[frozenset[str]] = frozenset({"processes"})

    def of_moments(self, moments: "Moments") -> Tensor:
        """The loss, from sums over the rows of all processes."""
        raise NotImplementedError

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Both views as tensors."""
        return self._outcome(inputs["embeddings"], None, references=inputs["references"], **sides)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        references = sides.get("references")
        if labels is not None or references is None:
            found = "without second views" if references is None else "with labels"
            raise LabelError(
                f"{type(self).__name__} was called {found}.",
                hint="Call loss(first, references=second): row i of both are views of one example.",
                reference="labels-missing",
            )
        checks, processes, weights = Checks(sides.get("execution")), sides.get("processes"), sides.get("weights")
        check_embeddings(embeddings, "embeddings", checks)
        check_embeddings(references, "references", checks)
        check_weights(weights, embeddings, checks)
        checks.done()
        if embeddings.shape != references.shape:
            raise ShapeError(
                f"embeddings have shape {tuple(embeddings.shape)}, references {tuple(references.shape)}.",
                hint="Row i of both are views of one example: pass as many rows of the same length.",
                reference="embedding-shape",
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            moments = Moments.of(embeddings, references, weights, processes or SINGLE_PROCESS)
            several = moments.rows > 1  # one row has no variance
            value = torch.where(several, self.of_moments(moments), 0.0)
        return Outcome(value, several.double())


@dataclass(frozen=True)
class Moments:
    """Sums over the rows of all processes; weights are relative to their mean.

    Args:
        rows: How many rows have a weight.
        apart: Sum of the squared differences of both views, (dim,).
        first: Products of the first views' deviations from their mean, (dim, dim).
        second: Those of the second views.
        across: Of the first with the second.
    """

    rows: Tensor
    apart: Tensor
    first: Tensor
    second: Tensor
    across: Tensor

    @staticmethod
    def of(x: Tensor, y: Tensor, weights: Tensor | None, processes: Processes) -> "Moments":
        """From both views."""
        wide = wide_dtype(x, y)
        x, y = x.to(wide), y.to(wide)
        w = x.new_ones(len(x)) if weights is None else weights.to(wide)
        there, mass = all_reduce_sum(torch.stack([(w > 0).sum().double(), w.sum().double()]), processes)
        rows = there.to(wide)
        w = (w * (rows / torch.where(mass > 0, mass, 1.0).to(wide)))[:, None]
        a, b = (x - _mean(x, w, rows, processes), y - _mean(y, w, rows, processes))
        sums = [(w * (x - y).square()).sum(0), (w * a).T @ a, (w * b).T @ b, (w * a).T @ b]
        return Moments(rows, *(reduce_sum(each, processes) for each in sums))


def _mean(x: Tensor, w: Tensor, rows: Tensor, processes: Processes) -> Tensor:
    total = (w * x).sum(0)
    return (total if processes.size == 1 else all_reduce_sum(total, processes)) / rows.clamp_min(1)


@register("vicreg")
class VICRegLoss(FeatureLoss):
    r"""Two views are near, each feature varies, and no two features vary together.

    $$L = \frac{\lambda}{n d} \sum_i \lVert z_i - z'_i \rVert^2 + \frac{\mu}{2d} \sum_{Z, Z'} \sum_j \big[1 -
    \sqrt{\mathrm{Var}(z_j) + \epsilon}\,\big]_+ + \frac{\nu}{d} \sum_{Z, Z'} \sum_{j \ne k} \mathrm{Cov}(z_j, z_k)^2$$

    Variances and covariances divide by n - 1. The terms are divided as in the paper's public code.

    Args:
        invariance: λ, at least 0.
        variance: μ, at least 0.
        covariance: ν, at least 0.
        eps: ε > 0.

    References:
        Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
        2022, eq. 1 to 6.
    """

    invariance: NotNegative = 25.0
    variance: NotNegative = 25.0
    covariance: NotNegative = 1.0
    eps: Positive = 1e-4

    suits = "two views in small batches, without negatives"

    def of_moments(self, moments: Moments) -> Tensor:
        """Three terms."""
        dim, free = len(moments.apart), (moments.rows - 1).clamp_min(1)
        value = self.invariance * moments.apart.sum() / (dim * moments.rows.clamp_min(1))
        for products in (moments.first, moments.second):
            covariances = products / free
            deviations = (covariances.diagonal() + self.eps).sqrt()
            value = value + self.variance * torch.relu(1 - deviations).mean() / 2
            value = value + self.covariance * _off_diagonal(covariances).square().sum() / dim
        return value


@register("barlow_twins")
class BarlowTwinsLoss(FeatureLoss):
    r"""Each feature of one view correlates with itself in the other view, and with no other feature.

    $$L = \sum_j (1 - C_{jj})^2 + \lambda \sum_{j \ne k} C_{jk}^2, \quad C_{jk} = \mathrm{Corr}(z_j, z'_k)$$

    A feature that does not vary correlates with nothing: C is 0 there, without gradient.

    Args:
        redundancy: λ, at least 0.

    References:
        Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021, eq.
        1 and 2.
    """

    redundancy: NotNegative = 0.0051

    suits = "two views and many features, without negatives"

    def of_moments(self, moments: Moments) -> Tensor:
        """From the cross-correlation."""
        lengths = [_root(products.diagonal()) for products in (moments.first, moments.second)]
        both = lengths[0][:, None] * lengths[1]
        correlations = torch.where(both > 0, moments.across / torch.where(both > 0, both, 1.0), 0.0)
        own = (1 - correlations.diagonal()).square().sum()
        return own + self.redundancy * _off_diagonal(correlations).square().sum()


vicreg, barlow_twins = VICRegLoss.function(), BarlowTwinsLoss.function()


def _off_diagonal(x: Tensor) -> Tensor:
    return x - torch.diag(x.diagonal())


def _root(x: Tensor) -> Tensor:
    """Square root with a derivative of 0 at 0."""
    return torch.where(x > 0, torch.where(x > 0, x, 1.0).sqrt(), 0.0)
