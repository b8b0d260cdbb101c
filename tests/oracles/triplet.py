"""Triplet losses: all triplets of a kind, the hardest of each anchor, and FaceNet's one negative per positive pair."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, hinge, relate, softplus, unit, weight_list


def triplet(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.2,
    select: str = "all",
    geometry: str = "squared_euclidean",
    power: int = 1,
    soft: bool | str = False,
    hard_offset: float | None = None,
    mean_over: str | None = None,
    normalise: bool = False,
    weights: Tensor | None = None,
    references: Tensor | None = None,
    reference_labels: Tensor | None = None,
    queue: Tensor | None = None,
    queue_labels: Tensor | None = None,
) -> Truth:
    """[D_ap - D_an + margin]_+ ^ power, or softplus(D_ap - D_an [+ margin]), over the selected (a, p, n)."""
    mean_over = mean_over or {"batch_hard": "anchors", "batch_easy": "anchors", "facenet": "all"}.get(select, "active")
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
    terms, counts = [], {"active": 0.0, "triplets": 0.0, "anchors": 0.0, "pairs": 0.0}
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if not (P and N):
            continue
        near, far = _chosen(
            D[a], P, N, select=select, margin=margin, hard_offset=hard_offset
        )  # D_ap and D_an of the chosen triplets
        if select == "swap":  # from the positive, where it is nearer to the negative
            from_positives = distances(references[P], references[N], geometry)
            far = torch.minimum(far, from_positives.flatten())
        losses = softplus(near + margin * (soft == "margin") - far) if soft else hinge((near + margin) - far) ** power
        active = len(losses) if soft else int(((near + margin) - far > 0).sum())
        every = {"batch_hard": 1, "batch_easy": 1, "facenet": len(P)}.get(select, len(P) * len(N))
        terms.append(Term(w[a], losses.sum(), {"all": every, "active": active, "anchors": 1}[mean_over]))
        found = {"active": active, "triplets": len(P) * len(N), "anchors": 1, "pairs": len(P)}
        counts = {name: counts[name] + w[a] * found[name] for name in counts}
    return divide(terms, x, **counts)


def _chosen(
    row: Tensor, P: list[int], N: list[int], *, select: str, margin: float, hard_offset: float | None
) -> tuple[Tensor, Tensor]:
    """Distances to the positive and to the negative of each chosen triplet; among equals the lowest index."""
    d = row.tolist()
    if select == "batch_hard":
        pairs = [(max(P, key=d.__getitem__), min(N, key=d.__getitem__))]
    elif select == "batch_easy":
        pairs = [(min(P, key=d.__getitem__), min(N, key=d.__getitem__))]
    elif select == "facenet":
        pairs = []
        for p in P:
            beyond = [n for n in N if d[n] > d[p]]
            pairs.append((p, min(beyond, key=d.__getitem__) if beyond else max(N, key=d.__getitem__)))
    else:
        pairs = [(p, n) for p in P for n in N if _wanted(d[p], d[n], select, margin, hard_offset)]
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return row[index[:, 0]], row[index[:, 1]]


def _wanted(d_ap: float, d_an: float, select: str, margin: float, hard_offset: float | None) -> bool:
    kinds = {
        "all": True,
        "swap": True,
        "easy": d_ap + margin < d_an,
        "semihard": d_ap < d_an < d_ap + margin,
        "hard": d_an <= d_ap if hard_offset is None else d_an + hard_offset < d_ap,
    }
    return kinds[select]
