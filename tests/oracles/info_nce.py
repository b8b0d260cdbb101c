"""InfoNCE between two sets, by rows, by class ids or by any relation."""

import math

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, similarities, weight_list


def info_nce(
    anchors: Tensor,
    references: Tensor,
    positive: Tensor | None = None,
    negative: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    geometry: str = "cosine",
    weights: Tensor | None = None,
) -> Truth:
    """lse over positives and negatives minus the mean positive score; symmetric: also the square block transposed.

    `positive` and `negative` are bool (anchors, references); by default row i answers row i, all others are negative.
    """
    rows = len(anchors)
    if positive is None:
        positive = torch.arange(rows)[:, None] == torch.arange(len(references))
    if negative is None:
        negative = ~positive
    options = {"temperature": temperature, "geometry": geometry, "weights": weights}
    forth = _one_way(anchors, references, positive, negative, **options)
    if not symmetric:
        return forth
    back = _one_way(references[:rows], anchors, positive[:, :rows].T, negative[:, :rows].T, **options)
    return Truth((forth.value + back.value) / 2, forth.count, {})


def _one_way(
    anchors: Tensor,
    references: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float | Tensor,
    geometry: str,
    weights: Tensor | None,
) -> Truth:
    s = similarities(anchors, references, geometry) / temperature
    w = weight_list(weights, len(anchors))
    terms = [
        Term(w[a], torch.logsumexp(s[a, positive[a] | negative[a]], 0) - s[a, positive[a]].mean(), 1.0)
        for a in range(len(anchors))
        if positive[a].any()
    ]
    return divide(terms, anchors)


def capped_temperature(log_scale: Tensor, cap: float = 100.0) -> Tensor:
    """1 / min(e^log_scale, cap): a learned temperature; beyond the cap it has no gradient."""
    return 1 / log_scale.clamp(max=math.log(cap)).exp()
