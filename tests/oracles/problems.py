"""Hypothesis strategies: small, nasty inputs for losses, in float64.

Values come from a seed or from a grid of eighths. On the grid distances are exact, so ties are ties however they are
computed; off the grid, rows are in general position. Copies of rows, zero rows, missing labels, huge labels, one class,
and classes of one example each occur in both.
"""

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

HUGE = 2**24  # from here on, float32 cannot tell neighbouring labels apart


class Problem(NamedTuple):
    anchors: Tensor  # leaf
    references: Tensor  # leaf
    labels: Tensor
    reference_labels: Tensor


@st.composite
def rows(draw: st.DrawFn, count: int, dim: int, *, grid: bool | None = None, copies: bool = True) -> Tensor:
    """Embeddings (count, dim), no leaf; `copies` allows equal rows and zero rows off the grid too."""
    on_grid = draw(st.booleans()) if grid is None else grid
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if on_grid:
        x = torch.randint(-2, 3, (count, dim), generator=generator).double() * draw(st.sampled_from([1.0, 0.125]))
    else:
        x = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    if on_grid or copies:
        for _ in range(draw(st.integers(0, 2))):
            x[draw(st.integers(0, count - 1))] = x[draw(st.integers(0, count - 1))].clone()
        if draw(st.integers(0, 3)) == 0:
            x[draw(st.integers(0, count - 1))] = 0
    return x


@st.composite
def class_ids(draw: st.DrawFn, count: int, *, classes: int = 3, unknown: bool = True) -> Tensor:
    """Labels (count,): few classes, one, or all distinct; -1 for unknown; from 0 or from 2^24."""
    kind = draw(st.sampled_from(["few", "few", "few", "one", "distinct"]))
    if kind == "distinct":
        labels = torch.arange(count)
    else:
        most = 0 if kind == "one" else classes - 1
        labels = torch.tensor(draw(st.lists(st.integers(0, most), min_size=count, max_size=count)), dtype=torch.int64)
    labels = labels + draw(st.sampled_from([0, HUGE]))
    if unknown and draw(st.booleans()):
        labels[torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)))] = -1
    return labels


@st.composite
def weights(draw: st.DrawFn, count: int) -> Tensor | None:
    """Weights (count,) in quarters, zeros among them; None in half of the draws."""
    quarters = st.lists(st.integers(0, 8), min_size=count, max_size=count)
    return draw(st.none() | quarters.map(lambda each: torch.tensor(each, dtype=torch.float64) / 4))


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    classes: int = 3,
    least: int = 1,
    most: int = 9,
    dims: tuple[int, int] = (1, 5),
    grid: bool | None = None,
    copies: bool = True,
    unknown: bool = True,
) -> Problem:
    """Two sets of `least` to `most` rows with labels; take the first half of it for losses of one set.

    Args:
        draw: Given by hypothesis.
        classes: Most classes in one draw, if they are not all distinct.
        least: Fewest rows.
        most: Most rows.
        dims: Shortest and longest row.
        grid: True: multiples of 1/8 only. False: never. None: both.
        copies: False: equal rows occur on the grid only. For losses that jump at ties.
        unknown: Whether labels may be -1.
    """
    count, others, dim = draw(st.integers(least, most)), draw(st.integers(least, most)), draw(st.integers(*dims))
    both = draw(rows(count + others, dim, grid=grid, copies=copies))  # so that copies occur across the sets
    both_labels = draw(class_ids(count + others, classes=classes, unknown=unknown))
    anchors, references = (part.clone().requires_grad_() for part in both.split([count, others]))
    return Problem(anchors, references, *both_labels.split([count, others]))


class Case(NamedTuple):
    """Arguments of a pair, triplet or row loss: `loss(embeddings, labels, **sides)`."""

    embeddings: Tensor  # leaf
    labels: Tensor | None
    sides: dict[str, Tensor]
    leaves: tuple[Tensor, ...]


@st.composite
def case(draw: st.DrawFn, *, pairs: bool = False, **options: Any) -> Case:
    """One set, a second set or a queue; class ids or multi-hot labels; with or without weights.

    Args:
        draw: Given by hypothesis.
        pairs: Whether labels may be absent, so that row i of the references belongs to row i.
        options: Those of `problems`.
    """
    problem = draw(problems(**options))
    kind = draw(st.sampled_from(["one set", "second set", "queue", "shared"] + ["pairs"] * pairs))
    x, y, labels, theirs = problem
    if kind == "pairs":
        x, y = (x, y) if len(x) <= len(y) else (y, x)
    if kind == "shared":
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        both = torch.rand(len(x) + len(y), 3, generator=generator) < draw(st.sampled_from([0.2, 0.5]))
        labels, theirs = both.long().split([len(x), len(y)])
    w = draw(weights(len(x)))
    sides = {} if w is None else {"weights": w}
    if kind == "pairs":
        return Case(x, None, {"references": y, **sides}, (x, y))
    if kind == "queue":
        return Case(x, labels, {"queue": y.detach(), "queue_labels": theirs, **sides}, (x,))
    if kind == "second set" or (kind == "shared" and draw(st.booleans())):
        return Case(x, labels, {"references": y, "reference_labels": theirs, **sides}, (x, y))
    return Case(x, labels, sides, (x,))
