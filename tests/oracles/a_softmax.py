"""A-Softmax: the angle to the class weight is multiplied, the length of the feature stays."""

import math

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, norm, unit, weight_list


def psi(cosine: Tensor, margin: int) -> Tensor:
    """(-1)^k cos(m theta) - 2k on [k pi/m, (k+1) pi/m], by the Chebyshev polynomial: its derivative is finite."""
    k = sum((cosine <= math.cos(j * math.pi / margin)).to(cosine) for j in range(1, margin)) + 0 * cosine.detach()
    before, polynomial = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, polynomial = polynomial, 2 * cosine * polynomial - before
    return (-1) ** k * polynomial - 2 * k


def a_softmax(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    margin: int = 4,
    annealing: float = 0.0,
    weights: Tensor | None = None,
) -> Truth:
    """Cross-entropy of |x| cos(theta_j), with |x| (lambda cos + psi) / (1 + lambda) for the row's own class."""
    w = weight_list(weights, len(x))
    cosines, lengths = unit(x) @ unit(weight).T, norm(x)
    terms = []
    for i, label in enumerate(labels.tolist()):
        if label == -1:
            continue
        own = (annealing * cosines[i, label] + psi(cosines[i, label], margin)) / (1 + annealing)
        logits = lengths[i] * torch.stack([own if j == label else c for j, c in enumerate(cosines[i])])
        terms.append(Term(w[i], torch.logsumexp(logits, 0) - logits[label], 1.0))
    return divide(terms, x)


def annealing(step: int, base: float = 1000.0, least: float = 5.0, gamma: float = 0.12, power: float = 1.0) -> float:
    """lambda of an optimiser step, counted from 0: max(least, base (1 + gamma step)^-power)."""
    return max(least, base * (1 + gamma * step) ** -power)
