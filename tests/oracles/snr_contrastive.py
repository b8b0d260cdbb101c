"""Contrastive loss over signal-to-noise ratios."""

from torch import Tensor

from oracles.rules import Term, Truth, divide, hinge, in_batch, relate, sum_of_means, unit, weight_list


def snr_contrastive(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 1.0,
    mean_penalty: float = 0.0,
    normalise: bool = False,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """Means of d over positives and of [m - d]_+ over negatives, of those above 0, with d = var(a - r) / var(a)."""
    matrix = relate(x, labels, **sides)
    raw, (x, references) = x, (unit(y) if normalise else y for y in (x, matrix.references))
    w = weight_list(weights, len(x))
    near, far = [], []
    for a in range(len(x)):
        signal = x[a].var(correction=0)
        if signal < 1e-25:  # rounding
            continue

        def ratio(r: int, a: int = a, signal: Tensor = signal) -> Tensor:
            return (x[a] - references[r]).var(correction=0) / signal

        near += [Term(w[a], d, float(d > 0)) for d in map(ratio, matrix.positive[a])]
        far += [Term(w[a], hinge(margin - d), float(d < margin)) for d in map(ratio, matrix.negative[a])]
    truth = sum_of_means(x, (1.0, near), (1.0, far))
    if not mean_penalty:
        return truth
    sums = [Term(w[a], raw[a].sum().abs(), 1.0) for a in range(len(x)) if in_batch(labels, a)]
    return truth._replace(value=truth.value + mean_penalty * divide(sums, x).value)
