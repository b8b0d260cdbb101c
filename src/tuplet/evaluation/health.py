"""Is the embedding space well used? Spectrum, spread on the sphere, lengths, copies."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from tuplet.bounds import Count, bounded
from tuplet.engine.tiles import spans
from tuplet.errors import ShapeError
from tuplet.evaluation.inputs import UNKNOWN, Arrays, class_labels, finite_rows
from tuplet.evaluation.pairs import distinct_integers
from tuplet.evaluation.result import Result
from tuplet.seeding import derive

_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True)
class HealthResult(Result):
    """What `health` found; no intervals.

    Values: `effective_rank`, `participation_ratio`, `uniformity`, `alignment` (with labels), `norm_mean`, `norm_std`,
    `norm_min`, `norm_max`, `duplicate_share` (rows that equal an earlier one).
    """


@bounded
def health(
    embeddings: Float[Tensor, "rows dim"] | Arrays,
    labels: Integer[Tensor, " rows"] | Arrays | None = None,
    *,
    centered: bool = True,
    max_rows: Count = 4096,
    seed: int = 0,
) -> HealthResult:
    r"""Numbers that show a collapsing or badly spread embedding.

    With singular values $\sigma$, $p_i = \sigma_i / \sum \sigma$ and $\lambda = \sigma^2$, the effective rank is
    $e^{-\sum p_i \log p_i}$ and the participation ratio $(\sum \lambda)^2 / \sum \lambda^2$; both are 0 for a single
    point. For unit vectors, alignment is the mean of $\|x - x^+\|^2$ over pairs of one class, uniformity
    $\log \mathrm{mean}_{i<j}\, e^{-2 \|x_i - x_j\|^2}$.

    Args:
        embeddings: One row per example, at least two.
        labels: Their class ids, for alignment; -1 for unknown.
        centered: Subtract the mean before the spectrum.
        max_rows: Uniformity is taken over all pairs of so many rows, drawn if there are more.
        seed: Of that draw.

    Returns:
        The numbers.

    Raises:
        ShapeError: If there are fewer than two rows, or a row holds NaN or infinity.
        LabelError: If labels are not one integer per row.

    References:
        Roy, Vetterli, "The effective rank", 2007. Wang, Isola, "Understanding contrastive representation learning
        through alignment and uniformity on the hypersphere", 2020.
    """
    rows = finite_rows(embeddings)
    if len(rows) < 2:
        raise ShapeError(
            f"There are {len(rows)} embeddings; at least 2 are needed.",
            hint="Embed more examples.",
            reference="too-few-embeddings",
        )
    norms = torch.linalg.vector_norm(rows, dim=1)
    units = rows / norms.clamp_min(_SMALLEST_NORM)[:, None]
    sampled = units[distinct_integers(len(rows), max_rows, derive(seed, "uniformity"))]
    copies = len(rows) - len(torch.unique(rows, dim=0))
    values = {**_spectrum(rows, centered), "uniformity": _uniformity(sampled)}
    counts = {"n_examples": len(rows), "n_duplicates": copies, "n_zero_rows": int((norms <= _SMALLEST_NORM).sum())}
    if labels is not None:
        values["alignment"], counts["n_positive_pairs"] = _alignment(units, class_labels(labels, len(rows)))
    values |= {f"norm_{kind}": float(getattr(norms, kind)()) for kind in ("mean", "std", "min", "max")}
    values["duplicate_share"] = copies / len(rows)
    settings = {"centered": centered, "uniformity_rows": len(sampled), "seed": seed}
    return HealthResult(values=values, lower={}, upper={}, counts=counts, settings=settings, few_classes=False)


def _spectrum(rows: Tensor, centered: bool) -> dict[str, float]:
    moved = rows - rows.mean(0) if centered else rows
    sizes = torch.linalg.svdvals(moved)
    # What is left of a single point after centring is rounding, not a direction.
    rounding = torch.finfo(rows.dtype).eps * max(rows.shape) * torch.linalg.matrix_norm(rows)
    sizes = sizes[sizes > rounding]
    if not len(sizes):
        return {"effective_rank": 0.0, "participation_ratio": 0.0}
    shares, powers = sizes / sizes.sum(), sizes.square()
    return {
        "effective_rank": float(torch.special.entr(shares).sum().exp()),
        "participation_ratio": float(powers.sum().square() / powers.square().sum()),
    }


def _uniformity(units: Tensor) -> float:
    count, total = len(units), units.new_zeros(())
    sizes = units.square().sum(1)  # 1, but for zero rows
    for part in spans(count, 256):
        squared = sizes[part, None] + sizes[part.start :] - 2 * units[part] @ units[part.start :].T
        total += (-2 * squared).exp_().triu_(1).sum()  # at least e^-8 each: nothing to stabilise
    return float((total / (count * (count - 1) / 2)).log())


def _alignment(units: Tensor, labels: Tensor) -> tuple[float, int]:
    """By the identity sum_{i<j} |x_i - x_j|^2 = n sum |x_i|^2 - |sum x_i|^2 within each class."""
    known = labels != UNKNOWN
    _, codes, sizes = torch.unique(labels[known], return_inverse=True, return_counts=True)
    sums = units.new_zeros(len(sizes), units.shape[1]).index_add_(0, codes, units[known])
    squares = units.new_zeros(len(sizes)).index_add_(0, codes, units[known].square().sum(1))
    pairs = int((sizes * (sizes - 1) // 2).sum())
    total = (sizes * squares - sums.square().sum(1)).clamp_min(0).sum()
    return (float(total / pairs) if pairs else float("nan")), pairs
