"""cos(m1 theta + m2) - m3 for the row's own class: CosFace, ArcFace and all between, with sub-centers and sampling."""

import math

import torch
from torch import Tensor

from oracles.rules import EPS, Term, Truth, divide, norm, unit, weight_list

TANGENT_FROM = math.pi - 0.1


def target_score(
    cosine: Tensor, theta: Tensor, *, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0, extension: str = "reflect"
) -> Tensor:
    """The logit of a target at angle `theta`, whose cosine is `cosine`."""
    u = m1 * theta + m2
    if extension == "linear" and theta.item() >= math.pi - m2:
        return cosine - m2 * math.sin(m2) - m3
    if extension == "easy" and cosine.item() <= 0:
        return cosine - m3
    if extension == "tangent" and u.item() > TANGENT_FROM:
        return math.cos(TANGENT_FROM) - math.sin(TANGENT_FROM) * (u - TANGENT_FROM) - m3
    if extension == "reflect":
        k = math.floor(u.item() / math.pi)
        return (-1) ** k * torch.cos(u) - 2 * k - m3
    return torch.cos(u) - m3


def combined_margin(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    scale: float = 64.0,
    m1: float = 1.0,
    m2: float = 0.3,
    m3: float = 0.2,
    extension: str = "reflect",
    sub_centers: int = 1,
    classes: list[int] | None = None,
    correction: bool = False,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Truth:
    """Cross-entropy of s cos(theta_j) with a margin on the target; class j owns the rows jK to jK+K-1 of `weight`.

    Args:
        classes: Only these are in the sum (all classes of the batch must be); None: every class.
        correction: Raise the scores of classes that were drawn, not present, by log(1 / probability to be drawn).
    """
    w = weight_list(weights, len(x))
    rows, centers = unit(x), unit(weight).unflatten(0, (-1, sub_centers))  # (classes, centers, dim)
    kept = list(range(len(centers))) if classes is None else list(classes)
    present = sorted({label for label in labels.tolist() if label != -1})
    terms = []
    for i, label in enumerate(labels.tolist()):
        if label == -1:
            continue
        logits = []
        for j in kept:
            cosines = centers[j] @ rows[i]
            best = max(range(sub_centers), key=cosines.tolist().__getitem__)  # among equals the lowest
            score = cosines[best]
            if j == label:
                score = target_score(score, _angle(rows[i], centers[j, best]), m1=m1, m2=m2, m3=m3, extension=extension)
            raised = math.log((len(centers) - len(present)) / (len(kept) - len(present))) if j not in present else 0.0
            logits.append(scale * score + (raised if correction else 0.0))
        logits = torch.stack(logits)
        wanted = (1 - label_smoothing) * logits[kept.index(label)] + label_smoothing * logits.mean()
        terms.append(Term(w[i], torch.logsumexp(logits, 0) - wanted, 1.0))
    return divide(terms, x)


def _angle(one: Tensor, two: Tensor) -> Tensor:
    """Angle of two unit rows, exact near 0 and pi, without gradient exactly there; pi/2 if one of them is zero."""
    if norm(one) <= EPS or norm(two) <= EPS:
        return one.new_tensor(math.pi / 2)
    return 2 * torch.atan2(norm(one - two), norm(one + two))
