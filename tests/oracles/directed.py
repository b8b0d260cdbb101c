"""InfoNCE of pairs in several directions, with own negatives, without candidates that a guide takes for positives."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, similarities, weight_list


def directed_info_nce(
    queries: Tensor,
    docs: Tensor,
    negatives: Tensor | None = None,
    *,
    directions: tuple[str, ...] = ("query_to_doc",),
    temperature: float | Tensor = 0.07,
    geometry: str = "cosine",
    margin: float | None = None,
    guides: tuple[Tensor, Tensor, Tensor | None] | None = None,
    weights: Tensor | None = None,
) -> Truth:
    """-s(q_i, d_i) + log of the sum over all candidates of all directions, one pair after the other."""
    rows, number = len(queries), 0 if negatives is None else negatives.shape[1]
    everything = docs if negatives is None else torch.cat([docs, negatives.flatten(0, 1)])
    owner = [*range(len(docs)), *(i for i in range(rows) for _ in range(number))]
    if guides is None and margin is not None:
        guides = queries.detach(), docs.detach(), None if negatives is None else negatives.detach()
    w, terms = weight_list(weights, rows), []

    def score(one: Tensor, other: Tensor) -> Tensor:
        return similarities(one[None], other[None], geometry)[0, 0]

    for i in range(rows):
        kept = []
        limit = None if guides is None else _cosine(guides[0][i], guides[1][i]) - (margin or 0.0)
        seen = guides and (guides[1] if guides[2] is None else torch.cat([guides[1], guides[2].flatten(0, 1)]))
        for name, mine, theirs, numbers in (
            ("query_to_doc", queries, everything, owner),
            ("query_to_query", queries, queries, range(rows)),
            ("doc_to_query", docs, queries, range(rows)),
            ("doc_to_doc", docs, everything, owner),
        ):
            for j in range(len(theirs)) if name in directions else ():
                is_same_kind = name in ("query_to_query", "doc_to_doc")
                if is_same_kind and numbers[j] == i:
                    continue
                is_positive = (name == "query_to_doc" and j == i) or (name == "doc_to_query" and j == i)
                if guides is not None and not is_positive:
                    asked = guides[0][i] if mine is queries else guides[1][i]
                    told = seen[j] if theirs is everything else guides[0][j]
                    if _cosine(asked, told) > limit:
                        continue
                kept.append(score(mine[i], theirs[j]) / temperature)
        terms.append(Term(w[i], torch.logsumexp(torch.stack(kept), 0) - score(queries[i], docs[i]) / temperature, 1.0))
    return divide(terms, queries)


def _cosine(one: Tensor, other: Tensor) -> float:
    return similarities(one.detach()[None], other.detach()[None], "cosine").item()
