"""Centroid triplet loss."""

from torch import Tensor

from oracles.rules import Term, Truth, divide, hinge, relate, weight_list


def centroid_triplet(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.3,
    select: str = "all",
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """[|x - mean of positives|^2 - |x - mean of class k|^2 + m]_+ over the classes k of negatives, or the nearest."""
    matrix = relate(x, labels, **sides)
    classes = _classes(x, labels, sides)
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if not P or not N:
            continue
        own = (x[a] - matrix.references[P].mean(0)).square().sum()
        others = []
        for k in sorted({classes[n] for n in N}):
            members = [n for n in N if classes[n] == k]
            others.append((x[a] - matrix.references[members].mean(0)).square().sum())
        for other in [min(others)] if select == "nearest" else others:
            z = own - other + margin
            terms.append(Term(w[a], hinge(z), float(z > 0)))
    return divide(terms, x)


def _classes(x: Tensor, labels: Tensor | None, sides: dict[str, Tensor]) -> list[int]:
    """Of each reference."""
    if labels is None:
        return list(range(len(sides["references"])))
    theirs = sides.get("reference_labels", labels)
    return theirs.tolist() + (sides["queue_labels"].tolist() if "queue_labels" in sides else [])
