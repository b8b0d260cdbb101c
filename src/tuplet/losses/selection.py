"""Triplets sampled by distance: negatives of all distances alike, where most lie at one."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from tuplet.bounds import NotNegative, Positive, bounded
from tuplet.engine.tiles import TILE_SIZE, spans
from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.losses.inputs import check_embeddings, row_ids
from tuplet.relation import SameLabel


@bounded
@torch.no_grad()
def distance_weighted(
    embeddings: Float[Tensor, "rows dim"],
    labels: Shaped[Tensor, " rows"],
    *,
    generator: torch.Generator,
    least: Positive = 0.5,
    most: NotNegative = 1.4,
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    r"""For each positive pair one negative, sampled with the inverse of the density of its distance on the sphere.

    $$w(d) = \frac{1}{q(\max(d, d_0))}, \quad \log q(d) = (n - 2) \log d + \tfrac{n - 3}{2} \log(1 - \tfrac14 d^2)$$

    with d the distance of unit vectors of n dimensions. Rows are answered some at a time; nothing flows back.

    Args:
        embeddings: Of any length; their directions are compared.
        labels: Class ids; -1 leaves a row out.
        generator: On the device of the embeddings; the same one draws the same triplets.
        least: d_0: nearer negatives are sampled as if they were as far as this, so that noise does not choose them.
        most: Negatives that are farther are not sampled; a pair whose anchor has no other is left out.

    Returns:
        Rows of anchors, of positives and of negatives, for
        `loss(embeddings[a], positives=embeddings[p], negatives=embeddings[n])`.

    References:
        Wu, Manmatha, Smola, Krähenbühl, "Sampling Matters in Deep Embedding Learning", 2017, sec. 4.2.
    """
    check_embeddings(embeddings, "embeddings")
    labels = row_ids(labels, embeddings, "labels")
    if embeddings.shape[1] < 3:
        raise LabelError(
            f"Embeddings have {embeddings.shape[1]} dimensions; the density of distances is that of 3 or more.",
            hint='Take all triplets instead: select="all".',
            reference="embedding-shape",
        )
    unit, dim = normalise(embeddings.float()), embeddings.shape[1]
    relation, every = SameLabel(labels), slice(0, len(labels))
    found = []
    for rows in spans(len(labels), max(1, TILE_SIZE // max(1, len(labels)))):
        positive, negative = relation.masks(rows, every)
        distances = (2 - 2 * unit[rows] @ unit.T).clamp_min(0).sqrt()
        d = distances.clamp(least, 2 - 1e-3)
        log_weights = -(dim - 2) * d.log() - (dim - 3) / 2 * (1 - d.square() / 4).log()
        candidate = negative & (distances <= most)
        log_weights = torch.where(candidate, log_weights, -torch.inf)
        a, p = (positive & candidate.any(1, keepdim=True)).nonzero(as_tuple=True)
        for some in spans(len(a), max(1, TILE_SIZE // max(1, len(labels)))):
            chosen = torch.softmax(log_weights[a[some]], 1)
            n = torch.multinomial(chosen, 1, generator=generator)[:, 0] if len(chosen) else a[some]
            found.append(torch.stack([a[some] + rows.start, p[some], n]))
    anchors, positives, negatives = torch.cat(found, 1)
    return anchors, positives, negatives
