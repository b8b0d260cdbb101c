"""N-pair losses: one pair per class, given negatives, and each positive alone against all negatives."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, softplus, weight_list


def npair_mc(
    f: Tensor,
    positives: Tensor,
    *,
    norm_penalty: float = 0.0,
    one_vs_one: bool = False,
    weights: Tensor | None = None,
) -> Truth:
    """log(1 + sum_j exp(f_i.f_j+ - f_i.f_i+)), or sum_j softplus(f_i.f_j+ - f_i.f_i+); dot products as they are."""
    w = weight_list(weights, len(f))
    terms = []
    for i in range(len(f)):
        others = [j for j in range(len(f)) if j != i]
        label_distances = positives[others] @ f[i] - positives[i] @ f[i]
        loss = (
            softplus(label_distances).sum()
            if one_vs_one
            else torch.logsumexp(torch.cat([label_distances, f.new_zeros(1)]), 0)
        )
        terms.append(Term(w[i], loss + _penalty(f[i], positives[i], norm_penalty), 1.0))
    return divide(terms, f)


def tuplet(
    f: Tensor, positives: Tensor, negatives: Tensor, *, norm_penalty: float = 0.0, weights: Tensor | None = None
) -> Truth:
    """log(1 + sum_n exp(f.f_n - f.f+)); each anchor has its own negatives, shape (anchors, n, dim)."""
    w = weight_list(weights, len(f))
    terms = []
    for i in range(len(f)):
        label_distances = negatives[i] @ f[i] - f[i] @ positives[i]
        loss = torch.logsumexp(torch.cat([label_distances, f.new_zeros(1)]), 0)
        terms.append(Term(w[i], loss + _penalty(f[i], positives[i], norm_penalty), 1.0))
    return divide(terms, f)


def npair_per_pair(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    references: Tensor | None = None,
    reference_labels: Tensor | None = None,
    queue: Tensor | None = None,
    queue_labels: Tensor | None = None,
) -> Truth:
    """1/|P| sum_p (lse over {p} and N minus s_p); no negative gives 0, no positive does not count."""
    matrix = relate(
        x,
        labels,
        references=references,
        reference_labels=reference_labels,
        queue=queue,
        queue_labels=queue_labels,
    )
    s = x @ matrix.references.T
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if P:
            each = [torch.logsumexp(s[a, [p, *N]], 0) - s[a, p] for p in P]
            terms.append(Term(w[a], sum(each) / len(P), 1.0))
    return divide(terms, x)


def _penalty(f: Tensor, positive: Tensor, norm_penalty: float) -> Tensor:
    return norm_penalty * (f.square().sum() + positive.square().sum()) / 2
