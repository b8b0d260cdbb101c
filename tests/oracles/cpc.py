"""Contrastive predictive coding: one bilinear critic per step ahead."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, weight_list


def cpc(
    latents: Tensor, contexts: Tensor, maps: Tensor, *, negatives: str = "batch", weights: Tensor | None = None
) -> Truth:
    """Cross-entropy of z_(n,t+k) among its candidates under z^T W_k c_(n,t), mean over all (n, t, k) with t+k < T."""
    sequences, times, _ = latents.shape
    w = weight_list(weights, sequences)
    terms = []
    for k, W in enumerate(maps, start=1):
        for t in range(times - k):
            for n in range(sequences):
                wanted = W @ contexts[n, t]
                if negatives == "batch":
                    scores, hit = latents[:, t + k] @ wanted, n
                else:
                    scores, hit = latents.flatten(0, 1) @ wanted, n * times + t + k
                terms.append(Term(w[n], torch.logsumexp(scores, 0) - scores[hit], 1.0))
    return divide(terms, latents)
