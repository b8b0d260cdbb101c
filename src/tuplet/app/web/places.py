"""Places of the items on a plane."""

import logging
import threading
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from tuplet.app.report.gallery import Gallery
from tuplet.app.report.map import lay_out
from tuplet.app.web.schemas import MapResponse
from tuplet.engine.topk import topk
from tuplet.index.base import Facts
from tuplet.seeding import derive
from tuplet.types import GeometryName

logger = logging.getLogger(__name__)

MOST_POINTS = 100_000
LANDMARKS = 3_000
_NEAREST = 3
_HALF = 10_000


class Places:
    """The map of an index, computed beside the requests in a thread of its own."""

    def __init__(self) -> None:
        self._found: MapResponse | None = None

    def start(self, facts: Sequence[Facts], vectors: NDArray[np.float32], geometry: GeometryName) -> None:
        """Begin to place items; `response` has them when it is done."""
        threading.Thread(target=self._run, args=(facts, vectors, geometry), name="map", daemon=True).start()

    def response(self) -> MapResponse:
        """The map, or an empty one that is not ready."""
        return self._found or MapResponse(ready=False, ids=[], labels=[], classes=[], x=[], y=[])

    def _run(self, facts: Sequence[Facts], vectors: NDArray[np.float32], geometry: GeometryName) -> None:
        try:
            places = placed(torch.from_numpy(vectors), geometry) if len(vectors) else np.zeros((0, 2))
        except Exception:  # the map is one part of the page, the rest works on
            logger.exception("The map could not be computed.")
            places = np.zeros((0, 2))
        kept = list(islice(facts, len(places)))
        classes = [_class_of(fact) for fact in kept]
        labels = sorted({name for name in classes if name is not None})
        numbers: dict[str | None, int] = {None: -1, **{label: at for at, label in enumerate(labels)}}
        self._found = MapResponse(
            ready=True,
            ids=[str(fact["id"]) for fact in kept],
            labels=labels,
            classes=[numbers[name] for name in classes],
            x=(places[:, 0] * (_HALF / 100)).round().astype(int).tolist(),
            y=(places[:, 1] * (_HALF / 100)).round().astype(int).tolist(),
        )


def _class_of(fact: Facts) -> str | None:
    """What colours a point: the class of an item, or its group."""
    found = fact.get("label", fact.get("group"))
    return None if found is None else str(found)


def placed(vectors: torch.Tensor, geometry: GeometryName, seed: int = 0) -> NDArray[np.float64]:
    """Places (n, 2) in [-100, 100]: t-SNE of at most 3,000 items, the others between their nearest ones of these.

    Args:
        vectors: Embeddings (n, dim).
        geometry: How they are compared.
        seed: Decides which items are laid out, and how t-SNE starts.
    """
    count = len(vectors)
    order = torch.randperm(count, generator=derive(seed, "map", "landmarks"))[:LANDMARKS].sort().values
    chosen = vectors[order]
    names = [str(at) for at in range(len(chosen))]
    gallery = Gallery(chosen, geometry, names, np.full(len(chosen), -1), ())
    marks = lay_out(gallery, np.arange(len(chosen)), seed)
    if count <= LANDMARKS:
        return marks
    found = topk(vectors, chosen, _NEAREST, geometry)
    distances = (found.scores - found.scores[:, :1]).abs().double()
    weights = torch.softmax(-distances / distances.mean().clamp_min(1e-12), dim=1).numpy()  # the nearest counts most
    places = (marks[found.positions.numpy()] * weights[:, :, None]).sum(1)
    places[order.numpy()] = marks
    return places
