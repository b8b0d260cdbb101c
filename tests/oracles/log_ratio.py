"""Log-ratio loss: ratios of distances follow ratios of label distances."""

from collections.abc import Callable

import torch
from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, weight_list


def log_ratio(
    f: Tensor,
    y: Tensor,
    *,
    geometry: str = "squared_euclidean",
    eps: float = 1e-6,
    anchors: str = "all",
    mask_zero_label: bool = True,
    label_distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    weights: Tensor | None = None,
    reference_weights: Tensor | None = None,
) -> Truth:
    """(r_i - r_j)^2 with r_i = log(D_f + eps) - log(D_y + eps), over anchors and unordered pairs of others."""
    y = y[:, None] if y.ndim == 1 else y
    Df = distances(f, f, geometry)
    Dy = distances(y, y, geometry) if label_distance is None else label_distance(y, y)
    w, v = weight_list(weights, len(f)), weight_list(reference_weights, len(f))
    terms = []
    for a in range(len(f) if anchors == "all" else min(1, len(f))):
        others = [i for i in range(len(f)) if i != a and not (mask_zero_label and Dy[a, i] == 0)]
        r = {i: torch.log(Df[a, i] + eps) - torch.log(Dy[a, i] + eps) for i in others}
        pairs = ((i, j) for i in others for j in others if i < j)
        terms += [Term(w[a], v[i] * v[j] * (r[i] - r[j]) ** 2, v[i] * v[j]) for i, j in pairs]
    return divide(terms, f)
