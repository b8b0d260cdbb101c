"""How two embeddings are compared, tile by tile.

A geometry scores a tile of anchors against a tile of references and turns score gradients (derivatives of the loss with
respect to those scores) into gradients of the embeddings. It never sees more than one tile.
"""

import inspect
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.errors import ShapeError
from tuplet.types import GeometryName

NEAR = 1e-3
"""Below this share of ‖a‖² + ‖r‖² the Gram form has lost too many digits; see `SquaredEuclidean`."""

SPARSE_ONE_IN = 128
"""Pairs are taken one by one where at most one gradient in so many is not zero; matrix products take longer then."""

_DIRECT = 2**20  # numbers held at once while near pairs are compared coordinate by coordinate


@runtime_checkable
class Geometry(Protocol):
    """Scores of a tile and their backward pass to the embeddings."""

    @property
    def kind(self) -> Literal["similarity", "distance"]:
        """Whether larger or smaller scores mean nearer."""

    @property
    def peak(self) -> float | None:
        """Largest score two embeddings can have, if there is one."""

    @property
    def narrow(self) -> bool:
        """True if references are prepared tile by tile, so that a tile should not span all of them."""

    @property
    def similarity_offset(self) -> float:
        """The score as the other kind is `flip - score`: 1 for cosine, 0 for the others."""

    def prepare(self, anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """What is done once per embedding, O(n dim); differentiated by autograd. One set stays one tensor."""

    def scores(self, a: Tensor, r: Tensor, out: Tensor) -> Any:
        """Write the scores of all pairs into `out`, shape (rows, cols), and return what `backward` needs."""

    def backward(
        self, grad_scores: Tensor, memo: Any, a: Tensor, r: Tensor, grad_a: Tensor | None, grad_r: Tensor | None
    ) -> None:
        """Add `grad_scores` times the derivative of the scores to both gradients. May overwrite `grad_scores`."""

    def pick(self, r: Tensor, memo: Any, rows: Tensor, cols: Tensor) -> Tensor:
        """The prepared references that gave the scores of these entries, (entries, dim)."""

    def place(self, grad_r: Tensor, memo: Any, rows: Tensor, cols: Tensor, entry_grads: Tensor) -> None:
        """Add gradients of what `pick` returned to those of the references."""


def normalise(x: Float[Tensor, "*rows dim"], eps: float = 1e-12) -> Float[Tensor, "*rows dim"]:
    r"""Rows scaled to length one; a row no longer than `eps` keeps its value over `eps` and gets no gradient.

    $$\hat x = x / \max(\lVert x \rVert, \epsilon)$$

    The exact derivative of this definition at a zero row is $1/\epsilon$; it is set to zero because no direction exists
    there.
    """
    return _Unit.apply(x, eps)  # type: ignore[no-untyped-call]


class _Unit(torch.autograd.Function):
    """A third of the launches that autograd takes; differentiable again, and by torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, eps: float) -> Tensor:
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)
        ctx.eps = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, unit = ctx.saved_tensors
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rate = torch.where(length > ctx.eps, length, torch.inf)
        return (grad - (grad * unit).sum(-1, keepdim=True) * unit) / rate, None

    @staticmethod
    def jvp(ctx: Any, step: Tensor, _: None) -> Tensor:
        x, unit = ctx.saved_tensors
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rate = torch.where(length > ctx.eps, length, torch.inf)
        return (step - (step * unit).sum(-1, keepdim=True) * unit) / rate


# torch reads it at each call, and without this takes longer to find it than for the lengths of a small batch
vars(_Unit.forward)["__signature__"] = inspect.signature(_Unit.forward)


@dataclass(frozen=True)
class Dot:
    """Inner product of the embeddings as they are."""

    kind: Literal["similarity", "distance"] = "similarity"
    peak: float | None = None
    similarity_offset: float = 0.0
    narrow: bool = False

    def prepare(self, anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is done to the embeddings."""
        return anchors, references

    def scores(self, a: Tensor, r: Tensor, out: Tensor) -> None:
        """One matrix product."""
        torch.mm(a, r.T, out=out)

    def pick(self, r: Tensor, memo: None, rows: Tensor, cols: Tensor) -> Tensor:
        """Row `cols` of the references."""
        del memo, rows
        return r[cols]

    def place(self, grad_r: Tensor, memo: None, rows: Tensor, cols: Tensor, entry_grads: Tensor) -> None:
        """Add to row `cols`."""
        del memo, rows
        grad_r.index_add_(0, cols, entry_grads)

    def backward(
        self, grad_scores: Tensor, memo: None, a: Tensor, r: Tensor, grad_a: Tensor | None, grad_r: Tensor | None
    ) -> None:
        """Two matrix products."""
        del memo
        if grad_a is not None:
            grad_a.addmm_(grad_scores, r)
        if grad_r is not None:
            grad_r.addmm_(grad_scores.T, a)


@dataclass(frozen=True)
class Cosine(Dot):
    """Inner product of the embeddings scaled to length one."""

    peak: float | None = 1.0
    similarity_offset: float = 1.0

    def prepare(self, anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """Scale every row to length one."""
        a = normalise(anchors)
        return a, a if references is anchors else normalise(references)


@dataclass(frozen=True)
class SquaredEuclidean:
    """‖a − r‖², from the Gram form where it is accurate and coordinate by coordinate where it is not.

    ‖a‖² + ‖r‖² − 2 a·r loses all digits of a distance that is small beside the norms, so pairs below `NEAR` of the
    norms are compared directly, both in value and in gradient. Embeddings are centred first, which keeps such pairs
    few.
    """

    kind: Literal["similarity", "distance"] = "distance"
    peak: float | None = None
    similarity_offset: float = 0.0
    narrow: bool = False

    def prepare(self, anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """Move the origin near the mean; distances and gradients do not depend on it."""
        centre = _centre(anchors.detach(), references.detach())
        a = anchors - centre
        return a, a if references is anchors else references - centre

    def scores(self, a: Tensor, r: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """One matrix product, and the near pairs again by hand; returns where those are."""
        a_norm, r_norm = a.square().sum(1), r.square().sum(1)
        torch.addmm(r_norm.expand_as(out), a, r.T, alpha=-2, out=out)
        out.add_(a_norm[:, None])
        itself = _itself(a, r, out)
        if itself is not None:
            itself.fill_(torch.inf)  # known, and not to be looked at
        rows, cols = _below(out, NEAR * (a_norm + r_norm.amax() if len(r_norm) else a_norm))
        for part in _parts(len(rows), a.shape[1]):
            out[rows[part], cols[part]] = (a[rows[part]] - r[cols[part]]).square().sum(1)
        if itself is not None:
            itself.fill_(0.0)
        return rows, cols

    def pick(self, r: Tensor, memo: Any, rows: Tensor, cols: Tensor) -> Tensor:
        """Row `cols` of the references."""
        del memo, rows
        return r[cols]

    def place(self, grad_r: Tensor, memo: Any, rows: Tensor, cols: Tensor, entry_grads: Tensor) -> None:
        """Add to row `cols`."""
        del memo, rows
        grad_r.index_add_(0, cols, entry_grads)

    def backward(
        self, grad_scores: Tensor, memo: Any, a: Tensor, r: Tensor, grad_a: Tensor | None, grad_r: Tensor | None
    ) -> None:
        """2 (rowsum(C) ⊙ a − C r) for C the score gradients; near pairs add 2 c (a − r) themselves."""
        _backward_differences(grad_scores, memo, a, r, grad_a, grad_r, factor=2)


@dataclass(frozen=True)
class Euclidean(SquaredEuclidean):
    """‖a − r‖; the gradient at distance zero is zero, since no direction exists there."""

    def scores(self, a: Tensor, r: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Root of the squared distances; also returns 1 / d, twice the derivative of d by d²."""
        rows, cols = super().scores(a, r, out)
        out.clamp_min_(0).sqrt_()
        steepness = out.reciprocal()
        near = out[rows, cols]  # among them every distance of zero but that of a row to itself
        steepness[rows, cols] = torch.where(near > 0, 1 / near, 0.0)
        itself = _itself(a, r, steepness)
        if itself is not None:
            itself.fill_(0.0)
        return rows, cols, steepness

    def backward(
        self, grad_scores: Tensor, memo: Any, a: Tensor, r: Tensor, grad_a: Tensor | None, grad_r: Tensor | None
    ) -> None:
        """Gradients by d become gradients by d², the rest is the same."""
        rows, cols, steepness = memo
        _backward_differences(grad_scores.mul_(steepness), (rows, cols), a, r, grad_a, grad_r, factor=1)


GEOMETRIES: dict[str, Geometry] = {
    "cosine": Cosine(),
    "dot": Dot(),
    "euclidean": Euclidean(),
    "squared_euclidean": SquaredEuclidean(),
}


def geometry_of(name: GeometryName | Geometry) -> Geometry:
    """The geometry of that name; a geometry passes through.

    Raises:
        ShapeError: If there is no geometry of that name.
    """
    if not isinstance(name, str):
        return name
    if name not in GEOMETRIES:
        raise ShapeError(
            f"There is no geometry called {name!r}.",
            hint=f"Use one of {', '.join(GEOMETRIES)}.",
            reference="unknown-geometry",
        )
    return GEOMETRIES[name]


def _itself(a: Tensor, r: Tensor, out: Tensor) -> Tensor | None:
    """Entries of rows with themselves, where both sides are rows of one tensor that lie one after the other."""
    step = a.stride(0) if a.numel() else 0
    if not step or a.untyped_storage().data_ptr() != r.untyped_storage().data_ptr() or a.stride() != r.stride():
        return None
    ahead, within = divmod(int(a.storage_offset() - r.storage_offset()), step)
    return out.diagonal(ahead) if within == 0 and -len(a) < ahead < len(r) else None


def _below(x: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Where entries are at most `least` (rows,); looks closer only at rows that have such an entry."""
    if not x.numel():
        return _nowhere(x), _nowhere(x)
    suspects = (x.amin(1) <= least).nonzero()[:, 0]
    if not len(suspects):
        return suspects, suspects
    rows, cols = (x[suspects] <= least[suspects, None]).nonzero(as_tuple=True)
    return suspects[rows], cols


def _backward_differences(
    grad_scores: Tensor,
    near: tuple[Tensor, Tensor],
    a: Tensor,
    r: Tensor,
    grad_a: Tensor | None,
    grad_r: Tensor | None,
    factor: float,
) -> None:
    """Add `factor` c (a − r) for every pair: for near pairs and for few of them by hand, else by matrix products."""
    nonzero = _nonzero_entries(grad_scores)
    rows, cols = near if nonzero is None else nonzero
    entry_grads = factor * grad_scores[rows, cols] if len(rows) else grad_scores[:0]
    if nonzero is None:
        if len(rows):
            grad_scores[rows, cols] = 0
        if grad_a is not None:
            grad_a.addmm_(grad_scores, r, alpha=-factor).addcmul_(grad_scores.sum(1)[:, None], a, value=factor)
        if grad_r is not None:
            grad_r.addmm_(grad_scores.T, a, alpha=-factor).addcmul_(grad_scores.sum(0)[:, None], r, value=factor)
    for part in _parts(len(rows), a.shape[1]):
        step = (a[rows[part]] - r[cols[part]]).mul_(entry_grads[part, None])
        if grad_a is not None:
            grad_a.index_add_(0, rows[part], step)
        if grad_r is not None:
            grad_r.index_add_(0, cols[part], step, alpha=-1)


def _parts(count: int, dim: int) -> list[slice]:
    """Pairs that are compared directly, some at a time."""
    size = max(1, _DIRECT // max(1, dim))
    return [slice(begin, begin + size) for begin in range(0, count, size)]


def _nonzero_entries(grad_scores: Tensor) -> tuple[Tensor, Tensor] | None:
    """Where gradients are not zero; None if at many entries, which a sample of rows shows in most cases."""
    sample = grad_scores[:: max(1, len(grad_scores) // 16)]
    if (
        int(sample.count_nonzero()) * SPARSE_ONE_IN > 4 * sample.numel()
        or int(grad_scores.count_nonzero()) * SPARSE_ONE_IN > grad_scores.numel()
    ):
        return None
    rows, cols = grad_scores.nonzero(as_tuple=True)
    return rows, cols


def _centre(a: Tensor, r: Tensor) -> Tensor:
    """The mean, rounded to a grid as coarse as the data's spread, so that data on a grid stay on it exactly."""
    rows = a if a is r else torch.cat([a, r])
    if not rows.numel():
        return rows.new_zeros(a.shape[1])
    mean = rows.mean(0)
    spread = (rows - mean).abs().amax()
    there = (spread > 0) & spread.isfinite()
    _, exponent = torch.frexp(torch.where(there, spread, 1.0) / 4)
    grid = torch.ldexp(torch.ones_like(spread), exponent - 1)  # the power of two below a quarter of the spread
    return torch.where(there, (mean / grid).round() * grid, rows[0])


def _nowhere(like: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.int64, device=like.device)
