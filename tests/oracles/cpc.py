"""Contrastive predictive coding: one bilinear critic per step ahead."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, weight_list


def cpc(
    latents: Tensor,
    contexts: Tensor,
    maps: Tensor,
    *,
    negatives: str = "batch",
    lengths: Tensor | None = None,
    weights: Tensor | None = None,
) -> Truth:
    """Cross-entropy of z_(n,t+k) among its candidates under z^T W_k c_(n,t), mean over all (n, t, k) with t+k < T_n."""
    sequences, times, _ = latents.shape
    w = weight_list(weights, sequences)
    ends = [times] * sequences if lengths is None else lengths.tolist()
    terms = []
    for k, W in enumerate(maps, start=1):
        for t in range(times - k):
            for n in range(sequences):
                if t + k >= ends[n]:
                    continue
                wanted = W @ contexts[n, t]
                if negatives == "batch":
                    there = [(m, t + k) for m in range(sequences) if t + k < ends[m]]
                else:
                    there = [(m, u) for m in range(sequences) for u in range(ends[m])]
                scores = torch.stack([latents[m, u] @ wanted for m, u in there])
                terms.append(Term(w[n], torch.logsumexp(scores, 0) - scores[there.index((n, t + k))], 1.0))
    return divide(terms, latents)
