"""What a run was judged on, kept in its folder: an index to search, and small copies to show."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tuplet.data import Dataset, Inputs, take
from tuplet.index import FlatIndex
from tuplet.training import checkpoint
from tuplet.training.judges import different_answers
from tuplet.training.looks import ModelLook

THUMBNAIL = 48
"""Longest side of a thumbnail in pixels."""
OUTLINE = 64
"""Steps of the outline of a series."""
CHANNELS = 3
"""Most channels of an outline."""


def save_gallery(folder: Path, look: ModelLook, dataset: Dataset) -> None:
    """Index the examples; of pairs the answers, and the queries beside them in `questions`.

    Args:
        folder: The run.
        look: Embeds.
        dataset: What the run was judged on.
    """
    facts, inputs = _facts(dataset), dataset.inputs
    if dataset.partners is None:
        _write(folder / "gallery", look, look.rows(dataset), facts)
    else:
        rows, wanted = different_answers(dataset)
        texts = dataset.partner_texts
        answers = [
            {key: value for key, value in facts[row].items() if key != "text"} | ({"text": texts[row]} if texts else {})
            for row in rows.tolist()
        ]
        _write(folder / "gallery", look, look.rows(dataset, "partner")[rows], answers)
        asked = [fact | {"answer": row} for fact, row in zip(facts, wanted.tolist(), strict=True)]
        _write(folder / "questions", look, look.rows(dataset), asked)
        _save_small(folder / "questions", inputs)
        inputs = take(dataset.partners, rows)
    _save_small(folder, inputs)


def _write(folder: Path, look: ModelLook, rows: Tensor, facts: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)  # so that "../model" leads somewhere from it
    FlatIndex.write(folder, look.embedder, rows, facts, model="../model")


def _facts(dataset: Dataset) -> list[dict[str, Any]]:
    """What the index knows of each item."""
    facts: list[dict[str, Any]] = [{"id": name} for name in dataset.ids]
    columns: dict[str, Sequence[Any]] = {}
    if dataset.classes is not None:
        columns["label"] = [dataset.class_names[label] if label >= 0 else None for label in dataset.classes.tolist()]
    if dataset.groups is not None:
        columns["group"] = dataset.groups
    if dataset.targets is not None:
        columns["target"] = dataset.targets.tolist()
    if dataset.texts is not None:
        columns["text"] = dataset.texts
    for name, values in columns.items():
        for fact, value in zip(facts, values, strict=True):
            fact[name] = value
    return facts


def _save_small(folder: Path, inputs: Inputs) -> None:
    """Small copies of images and series, row by row, so that results can be shown wherever the run is moved."""
    if isinstance(inputs, Tensor) and inputs.ndim == 4:
        _save(folder / "thumbnails.npy", _thumbnails(inputs))
        return
    series = [one for one in inputs if isinstance(one, Tensor) and one.ndim == 2 and one.is_floating_point()]
    if len(series) == len(inputs):
        _save(folder / "outlines.npy", torch.stack([_outline(one) for one in series]))


def _thumbnails(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) in uint8, no side longer than a thumbnail's."""
    if max(images.shape[2:]) <= THUMBNAIL:
        return images
    parts = torch.split(images, 256)
    return torch.cat([functional.interpolate(part.float(), THUMBNAIL, mode="area").round().byte() for part in parts])


def _outline(series: Tensor) -> Tensor:
    """The first channels of a series (channels, time), stretched or shrunk to the steps of an outline."""
    rows = series[None, :CHANNELS].float()
    return functional.interpolate(rows, OUTLINE, mode="linear", align_corners=True)[0].half()


def _save(path: Path, rows: Tensor) -> None:
    content = io.BytesIO()
    np.save(content, rows.numpy())
    checkpoint.write_file(path, content.getvalue())
