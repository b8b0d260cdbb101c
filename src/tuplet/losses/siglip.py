"""Sigmoid loss of pairs, with a learned scale and bias."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tuplet.bounds import Finite, Positive
from tuplet.engine import Processes
from tuplet.engine.gather import shared
from tuplet.engine.program import Found, Mean, Pair, Term, softplus, total
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch


@register("siglip")
class SigLIPLoss(PairLoss):
    r"""Binary classification of each pair as positive or negative, without a softmax over the batch.

    $$L_i = -\sum_j \log \sigma\big(z_{ij} (t\, s_{ij} + b)\big), \quad z_{ij} = 1 \text{ for pairs, else } -1$$

    Args:
        scale: t > 0, or "learned"; it then starts at 10, and its logarithm is the parameter.
        bias: b, or "learned"; it then starts at -10, since most pairs of a batch do not belong together.

    References:
        Zhai, Mustafa, Kolesnikov, Beyer, "Sigmoid Loss for Language Image Pre-Training", 2023, section 3.2.
    """

    scale: Positive | Literal["learned"] = "learned"
    bias: Finite | Literal["learned"] = "learned"

    suits = "very large batches, since each pair counts by itself"
    supervision = "pair"
    fixed_geometry = "cosine"
    divides_by = "all anchors"
    local = True
    learnable: ClassVar[Mapping[str, float]] = {"scale": 10.0, "bias": -10.0}

    def setup(self) -> None:
        """Make the learned ones."""
        if self.scale == "learned":
            self.log_scale = nn.Parameter(torch.tensor(self.learnable["scale"]).log())
        if self.bias == "learned":
            self.shift = nn.Parameter(torch.tensor(self.learnable["bias"]))

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """Scale and bias."""
        scale = shared(self.log_scale, processes).exp() if isinstance(self.scale, str) else self.scale
        bias = shared(self.shift, processes) if isinstance(self.bias, str) else self.bias
        like = problem.references
        return {"scale": scale, "offset": torch.as_tensor(bias, device=like.device).expand(len(like))}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Binary cross-entropy of each pair."""
        each = torch.where(pair.positive, softplus(-score), softplus(score))
        return {"loss": total(each, where=pair.positive | pair.negative)}

    def finish(self, found: Found) -> Mean:
        """Each anchor counts."""
        return Mean(found["loss"], torch.ones_like(found["loss"]))


siglip = SigLIPLoss.function()
