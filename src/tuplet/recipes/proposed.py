"""What is proposed for each kind of data, and why; docs/defaults.md holds what it was compared with."""

from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import Kind
from tuplet.data.image_files import shape_of
from tuplet.data.manifest import Items

PASSED = 120_000_000
"""Bytes of plain text, about 20 million words, that a training of word vectors should see in all."""
SHORT = 0.1
"""Share of the classes that may have fewer examples than a proposed batch takes of each."""
LARGEST, SMALLEST = 64, 16
"""Height and width of proposed images, in pixels."""
LOOKED_AT = 20
"""Images that are looked at to propose a size."""
VIEWS = {
    "image": {"name": "affine", "rotate": 0.1, "scale": 0.1, "crop": 0.3, "flip": False, "brightness": 0.3},
    "vector": {"name": "noise", "noise": 0.1, "drop": 0.2},
    "series": {"name": "series", "crop": 0.5, "noise": 0.2, "scale": 0.2},
    "text": {"name": "tokens", "drop": 0.3},
}
"""How two views of one example come about."""
LITTLE = {"name": "affine", "rotate": 0.1, "shear": 0.1, "scale": 0.1, "shift": 2.0, "crop": 1.0, "flip": False}
"""Changes of a picture that hardly any class depends on."""
UNMIRRORED = (
    "Not flipped: a mirrored letter, hand or road sign may be another class; --set train.augment.flip=true mirrors "
    "pictures that keep their class."
)
"""Why no proposal mirrors pictures."""
MANY = 192
"""Training classes from which a batch of pictures takes many of them, a few examples of each."""
WIDE = {"classes_per_batch": 96, "per_class": 4}
"""Such a batch."""
FEW_ROWS = 500
"""Rows with graded labels below which a small network and a short training do better; see docs/defaults.md."""
HIDDEN = {False: [256, 256], True: [128]}
"""Widths of the layers for rows of numbers; True: for few with graded labels."""
LAYERS = {
    False: "Two layers of 256 and, below, 2,000 steps with averaged weights; docs/defaults.md compares that with "
    "smaller and shorter.",
    True: f"One layer of 128 and, below, 500 steps: the labels of fewer than {FEW_ROWS} rows are soon learned by "
    f"heart; docs/defaults.md compares that with larger and longer.",
}
"""Why."""
AVERAGED = "Evaluated and saved: weights averaged over about 100 steps; without improvement training ends early."


def training(kind: Kind, *, is_small: bool = False, is_wide: bool = False) -> tuple[str, dict[str, Any]]:
    """How long and how fast to train, and why.

    Args:
        kind: What an example is.
        is_small: There are few rows with graded labels.
        is_wide: Batches take many classes.
    """
    if kind == "vector" and is_small:
        return "500 steps, for few rows; without a better one, training ends early.", {"steps": 500, "ema": 0.0}
    if kind == "vector":
        return f"2,000 steps, a minute for rows of numbers. {AVERAGED}", {"steps": 2000, "ema": 0.99, "patience": 5}
    if kind == "image" and is_wide:
        why = "A batch of many classes bears a larger rate."
        return f"{why} {AVERAGED}", {"learning_rate": 0.01, "ema": 0.99, "patience": 5}
    return (AVERAGED, {"ema": 0.99, "patience": 5}) if kind == "image" else ("", {})


def shape_of_images(items: Items) -> tuple[int, int]:
    """Size and channels of the first images, within what trains in minutes."""
    if isinstance(items, np.ndarray):
        height, channels = max(items.shape[2:]), items.shape[1]
    else:
        looked = [shape_of(item) or (SMALLEST, SMALLEST, 1) for item in items[:LOOKED_AT] if isinstance(item, Path)]
        height = int(np.median([min(width, height) for width, height, _ in looked]))  # loading reports broken images
        channels = max(channels for *_, channels in looked)
    return int(np.clip(height, SMALLEST, LARGEST)), channels
