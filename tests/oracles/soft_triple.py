"""SoftTriple: classes of several centers, mixed by how near each is."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, norm, unit, weight_list


def soft_triple(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    per_class: int = 10,
    scale: float = 20.0,
    gamma: float = 0.1,
    margin: float = 0.01,
    penalty: float = 0.2,
    weights: Tensor | None = None,
) -> Truth:
    """Cross-entropy of the mixtures, plus the mean distance of two centers of a class, times a half."""
    classes = unit(weight).unflatten(0, (-1, per_class))
    w, rows = weight_list(weights, len(x)), unit(x)
    terms = []
    for i, label in enumerate(labels.tolist()):
        if label == -1:
            continue
        scores = []
        for j, centers in enumerate(classes):
            cosines = centers @ rows[i]
            scores.append((torch.softmax(cosines / gamma, 0) * cosines).sum() - (margin if j == label else 0.0))
        terms.append(Term(w[i], torch.logsumexp(scale * torch.stack(scores), 0) - scale * scores[label], 1.0))
    found = divide(terms, x)
    if not found.count:
        return found
    apart = [norm(c[k] - c[m]) for c in classes for k in range(per_class) for m in range(k)]
    spread = sum(apart, x[:0].sum()) / (len(classes) * per_class * max(1, per_class - 1))
    return Truth(found.value + penalty * spread, found.count, {})
