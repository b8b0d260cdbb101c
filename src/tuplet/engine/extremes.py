"""Programs of which only the farthest and nearest references of a row have a gradient.

One pass finds them. Those O(rows) pairs are then compared again, coordinate by coordinate, and differentiated by
autograd.
"""

from functools import partial

import torch
from torch import Tensor

from tuplet.engine.compiling import compiled
from tuplet.engine.positives import listed_products
from tuplet.engine.problem import Problem
from tuplet.engine.products import equal_spans, multiply
from tuplet.engine.program import Mean
from tuplet.engine.reduction import Outcome
from tuplet.engine.tilecode import Spec, Values, reduce_tile, stat_names, weighted
from tuplet.engine.tritonpasses import Kernels, Reduced


def extremes(problem: Problem, a: Tensor, r: Tensor, values: Values) -> Outcome:
    """One pass finds the farthest and nearest references; those pairs are compared again, and differentiated."""
    spec, program = problem.spec, problem.spec.program
    rows, cols, scalars = dict(problem.rows), dict(problem.cols), dict[str, Tensor]()
    homes = {"row": rows, "col": cols, "scalar": scalars}
    for name, x in values.items():
        kind, _, own = name.partition(":")
        homes[kind][own] = x
    if not len(a) or not len(r):
        zero = (a[:0].sum() + r[:0].sum()).to(a.dtype)
        nothing = torch.zeros_like(zero.detach(), dtype=torch.float32 if a.device.type == "mps" else torch.float64)
        names = stat_names(program, spec.of_row, spec.of_col)
        return Outcome(zero, nothing, dict.fromkeys(names, nothing))
    places_of = {"begin": cols["place"][0], "new": cols.pop("place")[0]}
    constant = [{name: x.detach() for name, x in part.items()} for part in (rows, {**cols, **places_of}, scalars)]
    with torch.no_grad():
        best = _best(problem, a.detach(), r.detach(), constant)
    again = partial(_scores, spec, a, r, rows, cols, scalars)
    found: dict[str, Tensor] = {name: rows[name] for name in spec.of_row}
    if "listed" in rows:
        found["near"] = torch.where(rows["listed"], again(rows["places"]), -torch.inf)
    values = {name: value for name, (value, _) in best.items()}
    places = {name: place for name, (_, place) in best.items() if place is not None}
    lists = [place if place.ndim == 2 else place[:, None] for place in places.values()]
    scores = torch.split(again(torch.cat(lists, 1)), [each.shape[1] for each in lists], 1)  # all lists in one go
    seen = {name: score.view_as(places[name]) for name, score in zip(places, scores, strict=True)}
    for name, value in values.items():
        found[name] = torch.where(value.isfinite(), seen[name], value) if name in seen else value
    mean = program.finish(found)
    if not isinstance(mean, Mean):
        raise TypeError("a program of extremes has one mean")
    loss, number, stats = weighted(mean, rows["live"], rows.get("weight"))
    wide = torch.float32 if a.device.type == "mps" else torch.float64
    sums = {name: x.detach().sum(dtype=wide) for name, x in stats.items()}
    return Outcome(loss.sum(dtype=wide).to(a.dtype), number.detach().sum(dtype=wide), sums)


def _best(problem: Problem, a: Tensor, r: Tensor, constant: list[Values]) -> Reduced:
    """What the terms are reduced to, and where the extremes are."""
    spec, entries = problem.spec, problem.budget.entries
    if problem.budget.kernels is not None and not spec.program.near:
        kernels = Kernels.of(spec, (a, r), constant, problem.budget.kernels, {}, {})
        if kernels.can_be_written(["terms"]):
            return kernels.reduced()
    best: dict[str, list[tuple[Tensor, Tensor | None]]] = {}
    height = max(1, entries // len(r))
    code = compiled(reduce_tile, spec) if problem.budget.compiled else partial(reduce_tile, spec)
    for span, fresh in equal_spans(len(a), min(len(a), height)):
        product = multiply(a[span], r.T)
        tile_rows = {name: x[span] for name, x in constant[0].items()} if len(a) > height else constant[0]
        for name, (value, index) in code(product, tile_rows, constant[1], constant[2]).items():
            best.setdefault(name, []).append((value[fresh:], None if index is None else index[fresh:]))
    return {name: (torch.cat([x for x, _ in parts]), _joined(parts)) for name, parts in best.items()}


def _joined(parts: list[tuple[Tensor, Tensor | None]]) -> Tensor | None:
    places = [place for _, place in parts if place is not None]
    return torch.cat(places) if places else None


def _scores(spec: Spec, a: Tensor, r: Tensor, rows: Values, cols: Values, scalars: Values, places: Tensor) -> Tensor:
    """Scores of each anchor with the references at its places, (rows, k) like `places`; differentiable."""
    raw = listed_products(a, r, places, apart=spec.distance != "none")
    if spec.distance == "plain":
        there = raw > 0  # the root's derivative at 0 is set to 0; both branches have to stay finite
        raw = torch.where(there, torch.where(there, raw, 1.0).sqrt(), 0.0)
    raw = raw if spec.similarity_offset is None else spec.similarity_offset - raw
    score = raw * (rows["scale"][:, None] if "scale" in rows else scalars["scale"])
    return score if "offset" not in cols else score + cols["offset"][places]
