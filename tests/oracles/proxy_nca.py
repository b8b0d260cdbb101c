"""ProxyNCA with the own proxy in the sum."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, similarities, weight_list


def proxy_nca(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    scale: float = 9.0,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Truth:
    """-log softmax of -s ||x - w||^2 over the proxies, unit vectors; rows with a label."""
    d = 2 - 2 * similarities(x, weight, "cosine")
    w = weight_list(weights, len(x))
    rows = [i for i in range(len(x)) if labels[i] != -1]
    terms = []
    for i in rows:
        logits = torch.log_softmax(-scale * d[i], 0)
        loss = -(1 - label_smoothing) * logits[labels[i]] - label_smoothing * logits.mean()
        terms.append(Term(w[i], loss, 1.0))
    return divide(terms, x)
