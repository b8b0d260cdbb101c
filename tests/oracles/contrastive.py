"""Contrastive loss in three conventions; every unordered pair once."""

from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, hinge, relate, unit, weight_list


def contrastive(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 1.0,
    convention: str = "sohn",
    geometry: str | None = None,
    mean_over: str = "all",
    pos_margin: float = 0.0,
    normalise: bool = False,
    weights: Tensor | None = None,
    references: Tensor | None = None,
    reference_labels: Tensor | None = None,
    queue: Tensor | None = None,
    queue_labels: Tensor | None = None,
) -> Truth:
    """hadsell: D^2/2 and [m-D]^2/2; sohn: D^2 and [m-D]^2; note: D and [m-D], where D is the squared distance."""
    geometry = geometry or ("squared_euclidean" if convention == "note" else "euclidean")
    matrix = relate(
        x,
        labels,
        references=references,
        reference_labels=reference_labels,
        queue=queue,
        queue_labels=queue_labels,
    )
    x, references = (unit(y) if normalise else y for y in (x, matrix.references))
    D = distances(x, references, geometry)
    w = weight_list(weights, len(x))
    power = 1 if convention == "note" else 2
    factor = 0.5 if convention == "hadsell" else 1.0
    terms, anchors = {True: [], False: []}, {}
    for a in range(len(x)):
        for j in sorted(matrix.positive[a] + matrix.negative[a]):
            anchors[a] = w[a]
            num_in_batch = j < matrix.own
            if num_in_batch and j < a:
                continue  # met as (j, a)
            is_positive = j in matrix.positive[a]
            near = hinge(D[a, j] - pos_margin) if pos_margin else D[a, j]
            loss = factor * (near if is_positive else hinge(margin - D[a, j])) ** power
            share = {"all": 1.0, "active": float(loss > 0), "apart": float(loss > 0), "anchors": 0.0}[mean_over]
            terms[is_positive].append(Term((w[a] + w[j]) / 2 if num_in_batch else w[a], loss, share))
    if mean_over == "apart":
        return Truth(sum(divide(terms[kind], x).value for kind in (True, False)), 1.0, {})
    if mean_over == "anchors":
        terms[True] += [Term(weight, x.new_zeros(()), 1.0) for weight in anchors.values()]
    return divide(terms[True] + terms[False], x)
