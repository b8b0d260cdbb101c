"""Supervised contrastive loss, the mean over positives outside or inside the logarithm."""

import math

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, similarities, weight_list


def supcon(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.1,
    where: str = "out",
    geometry: str = "cosine",
    one_class: str = "count",
    weights: Tensor | None = None,
    references: Tensor | None = None,
    reference_labels: Tensor | None = None,
    queue: Tensor | None = None,
    queue_labels: Tensor | None = None,
) -> Truth:
    """out: -1/|P| sum_p (s_p - lse_A s); in: -log(1/|P| sum_p e^(s_p) / sum_A e^s). Anchors without P do not count."""
    matrix = relate(
        x,
        labels,
        references=references,
        reference_labels=reference_labels,
        queue=queue,
        queue_labels=queue_labels,
    )
    s = similarities(x, matrix.references, geometry) / temperature
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, gathered = matrix.positive[a], sorted(matrix.positive[a] + matrix.negative[a])
        if not P or (one_class == "skip" and not matrix.negative[a]):
            continue
        mass = torch.logsumexp(s[a, gathered], 0)
        positive_term = s[a, P].mean() if where == "out" else torch.logsumexp(s[a, P], 0) - math.log(len(P))
        terms.append(Term(w[a], mass - positive_term, 1.0))
    return divide(terms, x)
