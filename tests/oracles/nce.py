"""Noise-contrastive estimation of words, and negative sampling as its special case."""

import math

from torch import Tensor

from oracles.rules import Term, Truth, divide, softplus, weight_list


def nce(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    noise: Tensor,
    *,
    noise_probability: Tensor | None = None,
    objective: str = "nce",
    log_partition: float | Tensor = 0.0,
    weights: Tensor | None = None,
) -> Truth:
    """softplus(-D(target)) + sum over noise of softplus(D(word)), D = s - log Z - log(k Pn); no last term for neg.

    `noise` is (rows, k), or (k,) for words shared by all rows. A target of -1 is no row.
    """
    k = noise.shape[-1]
    w = weight_list(weights, len(h))
    terms = []
    for i, target in enumerate(targets.tolist()):
        if target == -1:
            continue
        words = (noise if noise.ndim == 1 else noise[i]).tolist()

        def delta(word: int, i: int = i) -> Tensor:
            log_noise = math.log(k * noise_probability[word].item()) if objective == "nce" else 0.0
            return h[i] @ weight[word] + bias[word] - log_partition - log_noise

        terms.append(Term(w[i], softplus(-delta(target)) + sum(softplus(delta(word)) for word in words), 1.0))
    return divide(terms, h)
