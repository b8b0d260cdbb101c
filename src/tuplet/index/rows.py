"""What the stores that keep items as rows have in common: checksums of rows, and recall beside exact search."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet.engine.topk import nearness, pair_scores
from tuplet.index.base import Facts, Hits, Index
from tuplet.types import GeometryName

INDEXED_FROM = 10_000
"""Items from which on a store looks at some of them; fewer are all compared."""
SPARE = 8
"""Candidates beyond those asked for: stores round scores, which are computed anew here."""
Candidate = tuple[int, NDArray[np.float32], str]
"""Number, embedding and facts (as JSON) of an item that a store has found."""


def facts_text(fact: Facts) -> str:
    """The facts of an item as they are stored."""
    return json.dumps(dict(fact), ensure_ascii=False)


def row_sum(name: str, content: str, facts: str, vector: NDArray[np.float32]) -> str:
    """Checksum of an item, 64 bits in hexadecimal digits."""
    digest = hashlib.sha256(f"{name}\n{content}\n{facts}\n".encode())
    digest.update(np.ascontiguousarray(vector, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def ranked(
    query: Tensor, found: Sequence[Candidate], geometry: GeometryName, top: int
) -> list[tuple[int, float, Facts]]:
    """The best of some candidates by their exact scores, equal ones by lower number."""
    if not found:
        return []
    rows = torch.from_numpy(np.stack([vector for _, vector, _ in found])).double()
    scores = pair_scores(query[None].expand(len(rows), -1).double(), rows, geometry)
    keys = nearness(scores, geometry).tolist()
    order = sorted(range(len(found)), key=lambda at: (-keys[at], found[at][0]))[:top]
    return [(found[at][0], float(scores[at]), json.loads(found[at][2])) for at in order]


def measured_recall(index: Index, *, top: int, queries: int, seed: int) -> dict[str, Any]:
    """Share of the exact neighbours of some items that the index finds, the items themselves left out.

    Returns:
        `measured`, the mean over queries, `low`, the lower end of its 95 % interval (by the spread over queries), and
        `queries`, `top` and `items`.
    """
    asked = index.sample(queries, seed)
    exact, found = (index.search(asked, top + 1, exact=way) for way in (True, False))
    shares = torch.tensor(
        [
            len(set(one[1:]) & set(other)) / max(1, len(one) - 1)
            for one, other in zip(_numbers(exact), _numbers(found), strict=True)
        ],
        dtype=torch.float64,
    )
    mean = float(shares.mean()) if len(shares) else 1.0
    error = 1.96 * float(shares.std()) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    low = max(0.0, mean - error)
    return {"measured": mean, "low": low, "queries": len(asked), "top": top, "items": len(index)}


def least_effort(
    efforts: Sequence[int], recall: float, measure: Callable[[int], Mapping[str, Any]]
) -> tuple[int, dict[str, Any]]:
    """The first of rising efforts that reaches a recall; the last one if none does."""
    low, high, best = 0, len(efforts) - 1, dict(measure(efforts[-1]))
    while low < high:
        middle = (low + high) // 2
        reached = dict(measure(efforts[middle]))
        if reached["measured"] >= recall:
            high, best = middle, reached
        else:
            low = middle + 1
    return efforts[high], best


def _numbers(hits: Hits) -> list[list[int]]:
    return [[at for at in row if at >= 0] for row in hits.positions.tolist()]
