"""CoSENT and AnglE: every two scored pairs, the one with the higher score should be more alike."""

import math

import torch
from torch import Tensor

from oracles.rules import Truth, norm, unit, weight_list


def cosent(
    a: Tensor, labels: Tensor, references: Tensor, *, scale: float = 20.0, weights: Tensor | None = None
) -> Truth:
    """log(1 + sum over y_i > y_j of e^(scale (s_j - s_i))), s the cosine of the sides."""
    return _ranked((unit(a) * unit(references)).sum(1), labels, scale, weights)


def angle(
    a: Tensor, labels: Tensor, references: Tensor, *, scale: float = 20.0, weights: Tensor | None = None
) -> Truth:
    """The same, s = |Re(z/w) + Im(z/w)| summed over the complex halves of rows, over |z| / |w|."""
    similarities = []
    for x, y in zip(a, references, strict=True):
        half = (len(x) + 1) // 2
        z, w = (torch.complex(v[:half], torch.cat([v[half:], v.new_zeros(2 * half - len(v))])) for v in (x, y))
        lengths = norm(x) * norm(y)
        product = (z * w.conj()).sum()
        alone = product.real + product.imag
        similarities.append((alone / lengths).abs() if lengths > 0 else alone * 0)
    return _ranked(torch.stack(similarities), labels, scale, weights)


def _ranked(s: Tensor, labels: Tensor, scale: float, weights: Tensor | None) -> Truth:
    w, y = weight_list(weights, len(s)), labels.flatten().tolist()
    mean = sum(w) / len(w) or 1.0
    exponents = [
        scale * (s[j] - s[i]) + math.log(w[i] * w[j] / mean**2)
        for i in range(len(s))
        for j in range(len(s))
        if y[i] > y[j] and w[i] and w[j]
    ]
    value = torch.logsumexp(torch.stack([s[:0].sum(), *exponents]), 0)  # the first is the 1
    return Truth(value, float(any(w)), {})
