"""Words and what lies next to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tuplet.app.report.gallery import Gallery
from tuplet.engine.topk import topk
from tuplet.seeding import derive

_SHOWN, _NEAREST = 16, 8
_FROM, _TO = 200, 5000  # ranks by frequency: known to everybody, and more than glue


@dataclass(frozen=True)
class Word:
    """A word and the nearest ones, nearest first."""

    word: str
    nearest: Sequence[str]


def pick_words(gallery: Gallery, seed: int) -> list[Word]:
    """Some frequent words, sampled at random, with their neighbours; the gallery holds words by falling frequency."""
    count = len(gallery.ids)
    first = min(_FROM, count // 10)
    plotted = torch.randperm(min(_TO, count) - first, generator=derive(seed, "report", "words"))[:_SHOWN] + first
    rows = plotted.sort().values
    found = topk(gallery.embeddings[rows], gallery.embeddings, _NEAREST, gallery.geometry, exclude=rows)
    return [
        Word(gallery.ids[row], [gallery.ids[at] for at in near if at >= 0])
        for row, near in zip(rows.tolist(), found.positions.tolist(), strict=True)
    ]
