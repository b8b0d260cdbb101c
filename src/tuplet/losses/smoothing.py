"""Label smoothing of heads: what the score of the own class is above the mean score of all."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS
from tuplet.engine.gather import reduce_sum, shared
from tuplet.errors import ShapeError
from tuplet.geometry import normalise
from tuplet.heads import ClassWeights, Head
from tuplet.margin import Margin, angles


def above_mean(
    embeddings: Tensor,
    labels: Tensor,
    classes: ClassWeights | Head,
    margin: Margin,
    scale: float,
    sides: Mapping[str, Any],
) -> Tensor:
    """Sum over the rows of all processes; the mean over the classes is a product with the sum of their weights.

    Args:
        embeddings: (rows, dim).
        labels: Class ids, -1 for none.
        classes: One vector for each class.
        margin: Of the own class.
        scale: Of all cosines.
        sides: Weights and processes of the call.

    Raises:
        ShapeError: If classes have several vectors, or only a part of them is here.
    """
    is_part = classes.classes is not None if isinstance(classes, Head) else classes.is_sampled
    if classes.centers > 1 or classes.shards.size > 1 or is_part:
        raise ShapeError(
            "label_smoothing was asked of class weights with sub-centers, shards or sampled classes.",
            hint="Use label_smoothing=0, or one vector for each class, all of them on each process.",
            reference="label-smoothing",
        )
    labels, processes, given = labels.long(), sides.get("processes", SINGLE_PROCESS), sides.get("weights")
    weights = (labels != -1).double() if given is None else torch.where(labels != -1, given.double(), 0.0)
    wide = torch.promote_types(torch.promote_types(embeddings.dtype, classes.weight.dtype), torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        x, w = normalise(embeddings.to(wide)), normalise(shared(classes.weight, processes).to(wide))
        angle = angles(x, w[labels.clamp_min(0)])
        own = margin(angle.cos(), angle.sin())[0]
        mean = (x @ w.sum(0) - angle.cos() + own) / len(w)
        above = scale * (own - mean)
    return reduce_sum((above * weights.to(wide)).sum(), processes)
