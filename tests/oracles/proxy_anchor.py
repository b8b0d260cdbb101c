"""Proxy-Anchor loss."""

import torch
from torch import Tensor

from oracles.rules import Truth, similarities, weight_list


def proxy_anchor(
    x: Tensor,
    proxies: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.1,
    alpha: float = 32.0,
    weights: Tensor | None = None,
) -> Truth:
    """Mean over classes in the batch of log(1 + sum_own w e^(-alpha (s - m))), plus that over all classes of
    log(1 + sum_others w e^(alpha (s + m))); w is relative to its mean."""
    s = similarities(x, proxies, "cosine")
    here = [i for i in range(len(x)) if labels[i] != -1]
    w = weight_list(weights, len(x))
    mean = sum(w[i] for i in here) / len(here) if here else 0.0
    here = [i for i in here if w[i] > 0]
    zero = x[:0].sum() + proxies[:0].sum()
    attractions, pushes = [], []
    for c in range(len(proxies)):
        own = [w[i] / mean * torch.exp(-alpha * (s[i, c] - margin)) for i in here if labels[i] == c]
        others = [w[i] / mean * torch.exp(alpha * (s[i, c] + margin)) for i in here if labels[i] != c]
        if own:
            attractions.append(torch.log1p(torch.stack(own).sum()))
        pushes.append(torch.log1p(torch.stack(others).sum()) if others else zero)
    value = zero + sum(pushes) / len(proxies) + (sum(attractions) / len(attractions) if attractions else 0.0)
    return Truth(value, 1.0, {"classes": float(len(attractions))})
