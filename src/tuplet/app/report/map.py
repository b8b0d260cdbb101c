"""Embeddings on a plane, for the eye."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tuplet.app.report.gallery import Gallery
from tuplet.app.report.neighbours import Neighbours
from tuplet.seeding import derive, derive_seed

POINTS = 3_000
"""Most points on a map."""
_NAMED = 40  # longest id shown beside a point


def choose_points(found: Neighbours, seed: int) -> NDArray[np.int64]:
    """Rows of `found`, ascending: whole classes, sampled at random, as many as fit on a map."""
    labels = found.labels[found.queries]
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = torch.randperm(len(classes), generator=derive(seed, "report", "map")).numpy()
    fits = np.cumsum(sizes[order]) <= POINTS
    if not fits[0]:  # one class alone is too many
        return np.linspace(0, len(labels) - 1, POINTS).astype(np.int64)
    return np.flatnonzero(np.isin(inverse, order[fits]))


def lay_out(gallery: Gallery, positions: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Places of embeddings on a plane, near ones near: t-SNE, started from the two main directions.

    Args:
        gallery: Embeddings; for similarities their directions are laid out.
        positions: Which of them (n,).
        seed: Fixes all that is drawn.

    Returns:
        Array (n, 2), centred, the larger extent scaled to [-100, 100].
    """
    embeddings = gallery.embeddings[torch.from_numpy(positions)]
    if gallery.geometry in ("cosine", "dot"):
        embeddings = torch.nn.functional.normalize(embeddings, dim=1)
    rows = (embeddings - embeddings.mean(0)).numpy()
    if len(rows) < 20 or rows.shape[1] < 3:  # too little to find neighbourhoods in
        places = rows @ np.linalg.svd(rows, full_matrices=False)[2][:2].T
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1]))).astype(np.float64)
    else:
        from openTSNE import TSNE

        perplexity = min(30, (len(rows) - 1) // 3)
        seed = derive_seed(seed, "report", "layout") % 2**32
        # One thread: the barriers of several cost more than they save on a few thousand points.
        tsne = TSNE(
            perplexity=perplexity,
            early_exaggeration_iter=150,
            n_iter=250,
            theta=0.8,
            negative_gradient_method="bh",
            random_state=seed,
            n_jobs=1,
        )
        places = np.asarray(tsne.fit(rows), dtype=np.float64)
    places -= (places.max(0) + places.min(0)) / 2
    return places * (100 / max(float(np.abs(places).max()), 1e-12))


def map_data(
    gallery: Gallery, found: Neighbours, rows: NDArray[np.int64], places: NDArray[np.float64]
) -> dict[str, Any]:
    """What the page needs to answer a pointer: place, class, id and class of the nearest neighbour of each point."""
    queries, nearest = gallery.labels[found.queries[rows]], gallery.labels[found.positions[rows, 0]]
    used, numbers = np.unique(np.concatenate([queries, nearest]), return_inverse=True)
    points = found.queries[rows].tolist()
    return {
        "x": places[:, 0].round(2).tolist(),
        "y": places[:, 1].round(2).tolist(),
        "names": [gallery.names[label] if label >= 0 else "no class" for label in used.tolist()],
        "classes": numbers[: len(rows)].tolist(),
        "nearest": numbers[len(rows) :].tolist(),
        "ids": [gallery.ids[query][-_NAMED:] for query in points],
        "notes": None if gallery.names and gallery.texts is None else [_note(gallery, point) for point in points],
        "named": bool(gallery.names),
    }


def _note(gallery: Gallery, point: int) -> str:
    """What is known of an example beside its class."""
    target = "" if gallery.targets is None else f"target {gallery.target(point)}"
    return " · ".join(part for part in (gallery.text(point), target) if part)
