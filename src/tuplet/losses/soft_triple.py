"""Softmax over classes of several centers, each of which counts by how near it is."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from tuplet.bounds import Count, NotNegative, Positive
from tuplet.engine import SINGLE_PROCESS, Execution, Outcome
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_reduce_sum, reduce_sum, shared
from tuplet.engine.tiles import spans
from tuplet.geometry import normalise
from tuplet.losses.base import register
from tuplet.losses.classes import ClassLoss, row_weights
from tuplet.tensors import wide_dtype

ENTRIES = 2**20
"""Most cosines that are held at once on a CPU, where a call does not say; elsewhere memory decides."""


@register("soft_triple")
class SoftTripleLoss(ClassLoss):
    r"""Cross-entropy over classes that have several learned centers; an example is compared with a mixture of them.

    $$L_i = -\log \frac{e^{\lambda (S_{i y_i} - \delta)}}{e^{\lambda (S_{i y_i} - \delta)} + \sum_{j \ne y_i} e^{\lambda
    S_{ij}}}, \quad S_{ij} = \sum_k \frac{e^{\hat x_i \cdot \hat w_{jk} / \gamma}}{\sum_l e^{\hat x_i \cdot \hat w_{jl}
    / \gamma}}\, \hat x_i \cdot \hat w_{jk}$$

    Added is τ times half of the mean distance of two centers of a class, which merges centers that are not needed.

    Inputs:
        weight: Centers; class j owns the rows jK to jK + K - 1.

    Args:
        centers: K, vectors for each class.
        scale: λ > 0.
        gamma: γ > 0; a small one takes the nearest center alone.
        margin: δ, in units of the cosine.
        penalty: τ, at least 0.

    References:
        Qian, Shang, Sun, Hu, Li, Jin, "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", 2019, eq. 8 to
        10.
    """

    centers: Count = 10
    scale: Positive = 20.0
    gamma: Positive = 0.1
    margin: NotNegative = 0.01
    penalty: NotNegative = 0.2

    suits = "classes of several clusters"

    def of_classes(self) -> dict[str, Any]:
        """Several each."""
        return {"centers": self.centers}

    def of_centers(self, cosines: Tensor) -> Tensor:
        """A mixture, in which near centers weigh more."""
        cosines = cosines.transpose(1, 2)  # a softmax over ten numbers in a row takes ten times as long
        return ((cosines / self.gamma).softmax(1) * cosines).sum(1)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        labels, processes = self.checked(embeddings, labels, sides), sides.get("processes", SINGLE_PROCESS)
        weight = shared(self.weight, processes)
        wide = wide_dtype(embeddings, weight)
        weights = row_weights(labels, sides.get("weights"), embeddings).double()
        with torch.autocast(embeddings.device.type, enabled=False):
            x, centers = normalise(embeddings.to(wide)), normalise(weight.to(wide))
            total = x[:0].sum() + centers[:0].sum()
            blocks = spans(len(x), (sides.get("tile_size") or _entries(x, sides.get("execution"))) // len(centers))
            for rows in blocks:
                given = x[rows], centers, labels[rows].clamp_min(0), weights[rows].to(wide)
                if len(blocks) == 1:  # no more than the limit stays
                    total = total + self._of_block(*given)
                else:
                    total = total + checkpoint(self._of_block, *given, use_reentrant=False, preserve_rng_state=False)
            count = all_reduce_sum(weights.sum(), processes)
            spread = self.penalty * self._spread(centers) * count.to(wide) if self.penalty else 0.0
        return Outcome(reduce_sum(total, processes) + spread, count)

    def _of_block(self, x: Tensor, centers: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Sum of the losses of some rows; computed again for the gradient, so that their cosines need not stay."""
        by_number = centers.reshape(-1, self.centers, centers.shape[1]).transpose(0, 1).flatten(0, 1)
        cosines = (x @ by_number.T).reshape(len(x), self.centers, len(centers) // self.centers)
        scores = self.of_centers(cosines.transpose(1, 2))
        own = labels[:, None] == torch.arange(scores.shape[1], device=scores.device)
        return (
            cross_entropy(self.scale * torch.where(own, scores - self.margin, scores), labels, reduction="none")
            * weights
        ).sum()

    def _spread(self, centers: Tensor) -> Tensor:
        """Mean distance of two centers of a class, times a half."""
        units = centers.reshape(-1, self.centers, centers.shape[1])
        apart = torch.cdist(units, units, compute_mode="donot_use_mm_for_euclid_dist")  # near ones have all digits
        return apart.sum() / (2 * len(centers) * max(1, self.centers - 1))


def _entries(x: Tensor, execution: Execution | None) -> int:
    """How many cosines are held at once, beside as many shares and their gradients."""
    execution = execution or DEFAULT
    return execution.entries(x) // 2 if uses_tiles(execution, x.device) else ENTRIES


soft_triple = SoftTripleLoss.function()
