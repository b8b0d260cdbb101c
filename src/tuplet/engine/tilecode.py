"""Tile code: what is computed between the matrix products of a pass, as plain functions of one tile.

Everything here is pointwise in the pairs of a tile, or a reduction along its axes. There are no reads of values by the
host and no index lists, so that the functions run eagerly, and compiled into one kernel each, on any device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.engine.plain import exponential, vjp
from tuplet.engine.program import Found, Mean, Monoid, Over, Pair, Program, Term, of_counted, reduce_term, reduced_rows

Values = dict[str, Tensor]
Compare = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, Tensor, Tensor | None]]

NOISE = 8.0
"""Squared distances below so many units in the last place of ‖a‖² + ‖r‖² are rounding: they count as 0."""


@dataclass(frozen=True)
class Spec:
    """What is fixed about a pass; everything that changes from tile to tile is a tensor.

    Args:
        program: The loss.
        compare: Tells positives, negatives and label distances from keys of rows and of columns.
        distance: Whether and how inner products become distances.
        similarity_offset: Scores become `similarity_offset - score` if the program reads the other kind; None if it
            does not.
        centers: So many columns of the product belong to a reference; the largest counts.
        has_margin: True if the scores of positives come from `target`, one per row.
        one_set: True if anchors and references are the same rows.
        of_row: Names of the program's own values of anchors.
        of_col: The same of references.
        layout: Name, monoid, axis and whether it only counts, of each term.
        needs_grad: Names of what gradients are asked for: "product", "row:…", "col:…", "scalar:…".
        low: Type of the score gradients, which are operands of products; None for that of the scores.
        as_written: True where no compiler or other tracer sees the code, on a CPU that may read values: products are
            the scores of the geometry then, and the masks `positive` and `negative` are among the scalars.
    """

    program: Program
    compare: Compare
    distance: Literal["none", "squared", "plain"]
    similarity_offset: float | None
    centers: int
    has_margin: bool
    one_set: bool
    of_row: tuple[str, ...]
    of_col: tuple[str, ...]
    layout: tuple[tuple[str, Monoid, Over, bool], ...]
    needs_grad: frozenset[str] = frozenset()
    low: torch.dtype | None = None
    as_written: bool = False


def scores_and_pair(spec: Spec, product: Tensor, rows: Values, cols: Values, scalars: Values, *, swapped: bool) -> Any:
    """Scores as the program reads them, and what is known of the pairs.

    Args:
        spec: See there.
        product: Inner products of the tile, (rows, cols · centers).
        rows: One entry per row of the tile for each name: live, position, square, scale, offset, target, keys.
        cols: The same for its columns; `begin`, without shape, is the place of the first, and the first `new` of them
            take no part.
        scalars: Tensors without shape.
        swapped: True to read the tile with its columns as anchors and its rows as references.
    """
    down = {name: x[:, None] for name, x in rows.items()}
    across = {name: x[None, :] for name, x in cols.items() if x.ndim}
    if spec.as_written:
        positive, negative, distance = scalars["positive"], scalars["negative"], scalars.get("apart")
        across["position"] = across["place"]
    else:
        positive, negative, distance = _compared(spec, product, down, across, cols)
    raw = product
    if "rate" in across:  # references of any length; those of none get no gradient
        there = across["there"].flatten(1)
        raw = torch.where(there, raw, raw.detach()) * across["rate"].flatten(1)
    if spec.centers > 1:
        raw = raw.view(len(product), -1, spec.centers)
        best = raw[..., 0]
        for center in range(1, spec.centers):
            best = torch.where(raw[..., center] > best, raw[..., center], best)
        raw = best
    if spec.distance != "none":
        raw = distances(raw, down["square"] + across["square"], plain=spec.distance == "plain")
    mine, theirs = (across, down) if swapped else (down, across)
    if spec.has_margin:
        raw = torch.where(positive, mine["target"], raw)
    if spec.similarity_offset is not None:
        raw = spec.similarity_offset - raw
    scale = mine.get("scale", scalars.get("scale"))
    score = raw if scale is None else raw * scale
    offset = theirs.get("offset")
    score = score if offset is None else score + offset
    of_row = {name: mine[name] for name in spec.of_row}
    if "listed" in rows:  # the positives' scores, from the same products as all others, so that ties stay ties
        near = torch.where(rows["listed"], score.gather(1, rows["places"]), -torch.inf)
        of_row["near"] = near[:, None]
    pair = Pair(
        positive,
        negative,
        mine["position"],
        theirs["position"],
        distance,
        offset,
        of_row,
        {name: theirs[name] for name in spec.of_col},
    )
    return score, pair


def distances(product: Tensor, size: Tensor, *, plain: bool) -> Tensor:
    """Distances, squared or plain, from inner products and the sums of both squares; they have no gradient at 0."""
    squared = size - 2 * product
    there = ~(squared <= NOISE * torch.finfo(squared.dtype).eps * size.detach())  # NaN stays
    safe = torch.where(there, squared, 1.0)
    return torch.where(there, safe.sqrt() if plain else safe, 0.0)


def _compared(
    spec: Spec, product: Tensor, down: Values, across: Values, cols: Values
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Masks and label distances of a tile from the keys of its rows and columns."""
    step = torch.arange(product.shape[1] // spec.centers, device=product.device)[None, :]  # counted, not read
    across["place"] = across["position"] = step + cols["begin"]
    positive, negative, distance = spec.compare(down, across)
    live = down["live"] & (down["position"] != across["place"]) & (step >= cols["new"])
    live = live & across["live"] if "live" in across else live
    return positive & live, negative & live, distance


def terms_of(
    spec: Spec, product: Tensor, rows: Values, cols: Values, scalars: Values, *, swapped: bool
) -> dict[str, Term]:
    """Terms of the pairs of a tile that count; see `scores_and_pair`."""
    score, pair = scores_and_pair(spec, product, rows, cols, scalars, swapped=swapped)
    return of_counted(spec.program.terms(score, pair), pair)


def reduce_tile(spec: Spec, product: Tensor, rows: Values, cols: Values, scalars: Values) -> dict[str, Any]:
    """Reduce the terms of one tile: name -> value and, for extremes, position in the tile."""
    terms = terms_of(spec, product, rows, cols, scalars, swapped=False)
    return {name: reduce_term(term, as_written=spec.as_written) for name, term in terms.items()}


def whole_rows(spec: Spec, product: Tensor, rows: Values, cols: Values, scalars: Values) -> tuple[Any, ...]:
    """Losses of whole rows, and their derivatives by everything that is wanted.

    Returns:
        Weighted loss and count (rows,), statistics by name, derivative by the product or None, and by each value.
    """
    own = asked_for(spec, rows, cols, scalars)

    def losses(tensors: Values) -> tuple[Tensor, Any]:
        r, c, s = replaced(tensors, rows, cols, scalars)
        score, pair = scores_and_pair(spec, tensors["product"], r, c, s, swapped=False)
        found = reduced_rows(spec.program, score, pair, as_written=spec.as_written)
        found |= {name: r[name] for name in spec.of_row} | {name: c[name] for name in spec.of_col}
        mean = spec.program.finish(found)
        if not isinstance(mean, Mean):
            raise TypeError("a program of one pass has one mean")
        loss, number, stats = weighted(mean, rows.get("live"), rows.get("weight"))
        return loss.sum(), (loss.detach(), number.detach(), {name: x.detach() for name, x in stats.items()})

    if not spec.needs_grad:
        _, (loss, number, stats) = losses({"product": product})
        return loss, number, stats, None, {}
    value, back, (loss, number, stats) = vjp(losses, {"product": product, **own}, has_aux=True)
    (grads,) = back(torch.ones_like(value))
    return loss, number, stats, *entry_grads(spec, grads.pop("product"), grads)


def score_grads(
    spec: Spec,
    product: Tensor,
    rows: Values,
    cols: Values,
    scalars: Values,
    of_rows: tuple[Values, Values],
    of_cols: tuple[Values, Values] | None,
) -> tuple[Tensor, Values]:
    """Derivatives of the loss by the inner products of a tile and by values, from those by what terms were reduced to.

    Args:
        spec: See there.
        product: Inner products, (rows, cols).
        rows: Values of rows, see `scores_and_pair`.
        cols: Values of columns.
        scalars: Tensors without shape.
        of_rows: Derivatives by the reduced terms of the rows, and what they were reduced to (for lse the value, for
            extremes the position of the column); entries over columns and the whole matrix among them.
        of_cols: For one set, the same of the columns as anchors: the derivative is then that of an entry plus that of
            its mirror image. None otherwise.
    """
    own = asked_for(spec, rows, cols, scalars)

    graded = [entry for entry in spec.layout if not entry[3]]

    def values(tensors: Values) -> dict[str, Tensor]:
        r, c, s = replaced(tensors, rows, cols, scalars)
        terms = terms_of(spec, tensors["product"], r, c, s, swapped=False)
        return {name: terms[name].masked() for name, *_ in graded}

    found, back = vjp(values, {"product": product, **own})
    (grads,) = back({entry[0]: _share(spec, entry, found, of_rows, rows, cols, swapped=False) for entry in graded})
    grad_scores = grads.pop("product")
    if of_cols is not None:

        def mirror(given: Tensor) -> dict[str, Tensor]:
            terms = terms_of(spec, given, rows, cols, scalars, swapped=True)
            return {name: terms[name].masked() for name, *_ in graded}

        seen, turn = vjp(mirror, product)
        (other,) = turn({entry[0]: _share(spec, entry, seen, of_cols, rows, cols, swapped=True) for entry in graded})
        grad_scores = grad_scores + other
    return entry_grads(spec, grad_scores, grads)


def asked_for(spec: Spec, rows: Values, cols: Values, scalars: Values) -> Values:
    """What is differentiated by; squares are not: -2 times their derivative is that of the products."""
    named = _named(rows, cols, scalars)
    return {name: x for name, x in named.items() if name in spec.needs_grad and not name.endswith(":square")}


def entry_grads(spec: Spec, grad_scores: Tensor, grads: Values) -> tuple[Tensor, Values]:
    """Score gradients as operands of products, and with the derivative by the squares of the rows."""
    grad_scores = grad_scores if spec.low is None else grad_scores.to(spec.low)
    if "row:square" in spec.needs_grad:
        grads["row:square"] = grad_scores.sum(1, dtype=sum_type(grad_scores)) * -0.5
    return grad_scores, grads


def sum_type(grad_scores: Tensor) -> torch.dtype:
    """Type in which score gradients are summed."""
    return torch.promote_types(grad_scores.dtype, torch.float32)


def local_pass(
    spec: Spec, product: Tensor, rows: Values, cols: Values, scalars: Values
) -> tuple[dict[str, Any], Tensor | None, Values]:
    """Reduce a tile of a local program and return its score gradients; for one set, those of both mirror images."""
    found = reduce_tile(spec, product, rows, cols, scalars)
    if not spec.needs_grad:
        return found, None, {}
    ones = torch.ones_like(found["loss"][0])
    of_rows = {"loss": rows.get("weight", ones)}
    of_cols: tuple[Values, Values] | None = None
    if spec.one_set:
        of_cols = {"loss": cols.get("weight", torch.ones_like(product[0]))}, {}
    grad_scores, grads = score_grads(spec, product, rows, cols, scalars, (of_rows, {}), of_cols)
    return found, grad_scores, grads


def weighted(mean: Mean, live: Tensor | None, weight: Tensor | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Loss, count and statistics of rows that take part (all if None), each times the row's weight."""
    if live is None:
        number = mean.count.to(mean.loss)
        stats = {name: x.to(mean.loss) for name, x in mean.stats.items()}
        if weight is None:
            return mean.loss, number, stats
        return mean.loss * weight, number * weight, {name: x * weight for name, x in stats.items()}
    factor = live.to(mean.loss) if weight is None else torch.where(live, weight, 0.0)
    numbers = {name: torch.where(live, x.to(mean.loss), 0.0) * factor for name, x in mean.stats.items()}
    loss, number = torch.where(live, mean.loss, 0.0), torch.where(live, mean.count.to(mean.loss), 0.0)
    return loss * factor, number * factor, numbers


def _share(
    spec: Spec,
    entry: tuple[str, Monoid, Over, bool],
    values: dict[str, Tensor],
    found: tuple[Values, Values],
    rows: Values,
    cols: Values,
    *,
    swapped: bool,
) -> Tensor:
    """Derivative of the loss by each number of a term."""
    name, monoid, over, _ = entry
    value, coefficient, reduced = values[name], found[0][name], found[1].get(name)
    if over == "all":
        return coefficient.expand_as(value) if monoid == "total" else coefficient * _softmax(spec, value, reduced)
    axis = 0 if (over == "column") != swapped else 1  # along which axis of the tile one coefficient holds
    coefficient = coefficient.unsqueeze(axis)
    if monoid == "total":
        return coefficient.expand_as(value)
    if reduced is None:
        raise AssertionError("a term over exponentials or extremes comes with what it was reduced to")
    if monoid == "lse":
        return coefficient * _softmax(spec, value, reduced.unsqueeze(axis))
    place = (
        rows["position"]
        if swapped
        else cols["place"]
        if "place" in cols
        else torch.arange(value.shape[1], device=value.device) + cols["begin"]
    )
    place = place.unsqueeze(1 - axis)
    place = place if value.ndim == 2 else place[..., None]
    return torch.where(place == reduced.unsqueeze(axis), coefficient, 0.0).expand_as(value)


def _softmax(spec: Spec, value: Tensor, reduced: Tensor | None) -> Tensor:
    """exp(value - lse); 0 where nothing was summed."""
    if reduced is None:
        raise AssertionError("an lse comes with its value")
    if spec.as_written:
        return exponential(value.detach() - torch.where(reduced > -torch.inf, reduced, 0.0))
    return torch.where(value > -torch.inf, (value - reduced).exp(), 0.0)


def _named(rows: Values, cols: Values, scalars: Values) -> Values:
    """All values by the names under which gradients are asked for."""
    return {
        **{f"row:{name}": x for name, x in rows.items()},
        **{f"col:{name}": x for name, x in cols.items()},
        **{f"scalar:{name}": x for name, x in scalars.items()},
    }


def replaced(tensors: Values, rows: Values, cols: Values, scalars: Values) -> tuple[Values, Values, Values]:
    """Rows, columns and scalars with those that are differentiated in their places."""
    parts = []
    for kind, given in (("row", rows), ("col", cols), ("scalar", scalars)):
        parts.append({name: tensors.get(f"{kind}:{name}", x) for name, x in given.items()})
    return parts[0], parts[1], parts[2]


def finished(program: Program, found: Found) -> tuple[Mean, ...]:
    """The means of a program, always as a tuple."""
    means = program.finish(found)
    return means if isinstance(means, tuple) else (means,)


@lru_cache(maxsize=1024)
def layout(program: Program, of_row: tuple[str, ...], of_col: tuple[str, ...]) -> tuple[Any, ...]:
    """Name, monoid, axis and whether it only counts, of each term of a program; from a tile of one pair."""
    terms = program.terms(*_one_pair(program, of_row, of_col))
    return tuple((name, term.monoid, term.over, term.counts) for name, term in terms.items())


@lru_cache(maxsize=1024)
def stat_names(program: Program, of_row: tuple[str, ...], of_col: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the statistics of a program, which every process has, also one without rows; from a tile of one pair."""
    score, pair = _one_pair(program, of_row, of_col)
    found = reduced_rows(program, score, pair)
    found |= {name: x[:, 0] for name, x in pair.of_row.items()} | {name: x[0] for name, x in pair.of_col.items()}
    return tuple(name for mean in finished(program, found) for name in mean.stats)


def _one_pair(program: Program, of_row: tuple[str, ...], of_col: tuple[str, ...]) -> tuple[Tensor, Pair]:
    yes, here, one = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
    rows, cols = ({name: torch.ones(1, 1) for name in names} for names in (of_row, of_col))
    if program.near:
        rows["near"] = torch.ones(1, 1, 1)
    return one, Pair(yes, ~yes, here, here, one, None, rows, cols)
