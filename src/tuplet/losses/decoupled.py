"""Decoupled contrastive learning: the positive is left out of the sum that it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tuplet.bounds import Positive, Tau
from tuplet.engine import SINGLE_PROCESS, Processes, stream
from tuplet.engine.gather import shared
from tuplet.engine.program import Found, Mean, Pair, Program, Term, count, lse, total
from tuplet.losses.declare import register
from tuplet.losses.info_nce import TemperatureLoss, joined_views
from tuplet.losses.inputs import PairBatch


@register("decoupled_contrastive")
class DecoupledContrastiveLoss(TemperatureLoss):
    r"""NT-Xent without the positive in the denominator, so that a near positive does not weaken the negatives.

    $$L_i = -\frac{1}{|P_i|} \sum_{p \in P_i} w_{ip} \frac{s_{ip}}{\tau} + \log \sum_{n \in N_i} e^{s_{in}/\tau}, \quad
    w_{ip} = 2 - \frac{e^{s_{ip}/\sigma}}{\mathbb{E}[e^{s/\sigma}]}$$

    The mean E is over all positive pairs of the batch. Without `weighted` w is 1. Two sets are two views of each
    example, joined into one set.

    Inputs:
        embeddings: First views; row i of `references` is the second view of row i.
        labels: Class ids or pair ids, if all examples are among the embeddings.

    Args:
        temperature: tau > 0; or "learned", from 0.1 on.
        weighted: True for w, which gives positives that are far apart a larger share.
        sigma: σ > 0 of w.

    References:
        Yeh, Hong, Hsu, Liu, Chen, LeCun, "Decoupled Contrastive Learning", 2022, eq. 5 and 6.
    """

    temperature: Tau | Literal["learned"] = 0.1
    weighted: bool = False
    sigma: Positive = 0.5

    suits = "two views in small batches"
    supervision = "pair"
    fixed_geometry = "cosine"
    divides_by = "all examples that have a positive and a negative"
    learnable: ClassVar[Mapping[str, float]] = {"temperature": 0.1}

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Both views as one set."""
        return joined_views(embeddings, labels, sides)

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """The temperature; and for w the mean of exponentials, and what makes scores of σ of those of the loss."""
        found = super().values(problem, processes)
        if not self.weighted:
            return found
        sets, sigma = (problem.anchors, problem.references, problem.relation), self.sigma
        own = stream(_Likeness(sigma), *sets, scale=1 / sigma, **problem.stream_options | {"stats": False})
        like = own.value.new_ones(len(problem.anchors))
        rate = 1 / (sigma * torch.as_tensor(found["scale"], device=like.device, dtype=like.dtype))
        expected = shared(own.value, problem.stream_options.get("processes", SINGLE_PROCESS))
        return found | {"of_row": {"expected": expected * like, "per_sigma": rate * like}}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Mass of the negatives, and the positives' scores, plain and by their likeness."""
        found = {
            "mass": lse(score, where=pair.negative),
            "wanted": total(score, where=pair.positive),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }
        if self.weighted:
            like = (score * pair.of_row["per_sigma"] - 1 / self.sigma).exp()
            found["alike"] = total(score * like, where=pair.positive)
        return found

    def finish(self, found: Found) -> Mean:
        """Anchors that lack one of both are not counted."""
        valid = (found["positives"] > 0) & (found["negatives"] > 0)
        wanted = found["wanted"]
        if self.weighted:
            expected = found["expected"]
            wanted = 2 * wanted - found["alike"] / torch.where(expected > 0, expected, 1.0)
        mass = torch.where(valid, found["mass"], 0.0)
        return Mean(torch.where(valid, mass - wanted / found["positives"].clamp_min(1), 0.0), valid)


decoupled_contrastive = DecoupledContrastiveLoss.function()


@dataclass(frozen=True)
class _Likeness(Program):
    r"""The mean of $e^{(s - 1)/\sigma}$ over the positive pairs; 1 keeps it below 1, and does not change the ratio."""

    sigma: float = 0.5
    local: ClassVar[bool] = True

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """One exponential for each positive."""
        each = torch.where(pair.positive, score - 1 / self.sigma, -torch.inf).exp()
        return {"loss": total(each), "positives": count(pair.positive)}

    def finish(self, found: Found) -> Mean:
        """Each pair counts."""
        return Mean(found["loss"], found["positives"])
