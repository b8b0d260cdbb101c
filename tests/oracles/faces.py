"""Heads whose own class is scored by the row: CurricularFace, AdaFace, MagFace, ElasticFace, UniFace and P2SGrad."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from oracles.combined_margin import _angle
from oracles.rules import Term, Truth, divide, norm, softplus, unit, weight_list

Own = Callable[[int, Tensor, Tensor], Tensor]
"""Row, cosine and angle -> score of the own class."""


def curricularface(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    progress: Tensor | None = None,
    *,
    margin: float = 0.5,
    scale: float = 64.0,
    weights: Tensor | None = None,
) -> Truth:
    """Negatives above the target become cos (t + cos)."""
    t = 0.0 if progress is None else float(progress)

    def harder(cosine: Tensor, target: Tensor) -> Tensor:
        return cosine * (t + cosine) if cosine > target else cosine

    return _softmax(x, weight, labels, weights, scale, lambda _, __, angle: _beyond(angle + margin), harder)


def adaface(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    norm_mean: Tensor,
    norm_deviation: Tensor,
    *,
    margin: float = 0.4,
    concentration: float = 0.333,
    scale: float = 64.0,
    weights: Tensor | None = None,
) -> Truth:
    """cos(theta - m q) - m (q + 1), q the clipped and normalised norm, a constant."""
    lengths = norm(x).detach().clamp(1e-3, 100)
    quality = (concentration * (lengths - float(norm_mean)) / (float(norm_deviation) + 1e-3)).clamp(-1, 1)

    def own(i: int, _: Tensor, angle: Tensor) -> Tensor:
        q = quality[i]
        return torch.cos((angle - margin * q).clamp(1e-3, math.pi - 1e-3)) - margin * (q + 1)

    return _softmax(x, weight, labels, weights, scale, own)


def magface(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    least_margin: float = 0.45,
    largest_margin: float = 0.8,
    least_norm: float = 10.0,
    largest_norm: float = 110.0,
    penalty: float = 35.0,
    scale: float = 64.0,
    weights: Tensor | None = None,
) -> Truth:
    """A margin in a line with the norm, and lambda (1 / a + a / u^2)."""
    a = norm(x).clamp(least_norm, largest_norm)
    margins = least_margin + (largest_margin - least_margin) * (a - least_norm) / (largest_norm - least_norm)
    more = penalty * (1 / a + a / largest_norm**2)
    return _softmax(x, weight, labels, weights, scale, lambda i, _, angle: _beyond(angle + margins[i]), more=more)


def elasticface(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    margins: Tensor,
    *,
    scale: float = 64.0,
    kind: str = "arc",
    hard_first: bool = False,
    weights: Tensor | None = None,
) -> Truth:
    """A margin for each row; hard_first: the largest for the row that is farthest from its class."""
    if hard_first:
        far = [_angle(unit(x)[i], unit(weight)[max(0, int(labels[i]))]).item() for i in range(len(x))]
        order = sorted(range(len(x)), key=far.__getitem__)
        margins = margins.sort().values[torch.tensor([order.index(i) for i in range(len(x))], dtype=torch.int64)]

    def own(i: int, cosine: Tensor, angle: Tensor) -> Tensor:
        return _beyond(angle + margins[i]) if kind == "arc" else cosine - margins[i]

    return _softmax(x, weight, labels, weights, scale, own)


def uniface(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    threshold: Tensor,
    *,
    margin: float = 0.4,
    negative_weight: float = 1.0,
    scale: float = 64.0,
    negative_share: float = 1.0,
    row_chances: Tensor | None = None,
    class_chances: Tensor | None = None,
    weights: Tensor | None = None,
) -> Truth:
    """Binary cross-entropy of each class by one threshold; a negative counts if its number p_ij is below the share."""
    cosines, w = unit(x) @ unit(weight).T, weight_list(weights, len(x))
    terms = []
    for i, label in enumerate(labels.tolist()):
        if label != -1:
            negatives = [j for j in range(len(weight)) if j != label]
            if row_chances is not None and class_chances is not None:
                p = [math.fmod(float(row_chances[i]) + float(v), 1.0) for v in class_chances]
                negatives = [j for j in negatives if p[j] < negative_share]
            others = [softplus(scale * cosines[i, j] - threshold) for j in negatives]
            own = softplus(threshold - scale * (cosines[i, label] - margin))
            terms.append(Term(w[i], own + negative_weight * sum(others, x[:0].sum()), 1.0))
    return divide(terms, x)


def p2sgrad(x: Tensor, weight: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Truth:
    """Squared errors of the cosines: 1 for the own class, 0 for the others."""
    cosines, w = unit(x) @ unit(weight).T, weight_list(weights, len(x))
    wanted = torch.nn.functional.one_hot(labels.clamp_min(0), len(weight))
    rows = [i for i in range(len(x)) if labels[i] != -1]
    return divide([Term(w[i], (cosines[i] - wanted[i]).square().sum(), 1.0) for i in rows], x)


def _softmax(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    scale: float,
    own: Own,
    change: Callable[[Tensor, Tensor], Tensor] = lambda cosine, _: cosine,
    more: Tensor | None = None,
) -> Truth:
    rows, units, w = unit(x), unit(weight), weight_list(weights, len(x))
    terms = []
    for i, label in enumerate(labels.tolist()):
        if label == -1:
            continue
        target = own(i, rows[i] @ units[label], _angle(rows[i], units[label]))
        others = [change(rows[i] @ units[j], target) for j in range(len(weight)) if j != label]
        loss = torch.logsumexp(scale * torch.stack([target, *others]), 0) - scale * target
        terms.append(Term(w[i], (loss if more is None else loss + more[i]) + x[:0].sum(), 1.0))
    return divide(terms, x)


def _beyond(u: Tensor) -> Tensor:
    """The cosine, from pi on -2 - cos."""
    return -2 - torch.cos(u) if u > math.pi else torch.cos(u)
