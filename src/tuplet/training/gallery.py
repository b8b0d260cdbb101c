"""All examples of a run, kept in its folder: an index to search, and small copies to show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tuplet.data import Dataset, Inputs, take
from tuplet.index import FlatIndex
from tuplet.index.flat import OUTLINES, THUMBNAILS
from tuplet.training.features import ModelExtractor
from tuplet.training.job import Job
from tuplet.training.protocols import distinct_partners

THUMBNAIL = 48
"""Longest side of a thumbnail in pixels."""
OUTLINE = 64
"""Steps of the outline of a series."""
CHANNELS = 3
"""Most channels of an outline."""


def splits_of(job: Job) -> dict[str, Dataset]:
    """All examples of a training by the split they are in; those of the evaluation come first."""
    split, dataset = job.evaluation_split
    rest = {"test": job.test, "validation": job.validation, "train": job.train}
    others = {name: part for name, part in rest.items() if part is not None and part is not dataset}
    return {split: dataset, **others}


def save_gallery(folder: Path, model: ModelExtractor, splits: Mapping[str, Dataset]) -> None:
    """Index the examples of all splits, each with the name of its split.

    Of pairs the answers are indexed, equal ones once; the queries of the first split lie beside them in `questions`.

    Args:
        folder: The run.
        model: Embeds the examples.
        splits: The examples by split; those of the evaluation come first.
    """
    rows, facts, inputs = zip(*(_part(model, dataset, name) for name, dataset in splits.items()), strict=True)
    _write(folder / "gallery", model, torch.cat(rows), [fact for part in facts for fact in part], _small(inputs))
    split, evaluated = next(iter(splits.items()))
    if evaluated.partners is not None:
        wanted = distinct_partners(evaluated)[1].tolist()
        asked = [fact | {"answer": row} for fact, row in zip(_facts(evaluated, split), wanted, strict=True)]
        _write(folder / "questions", model, model.embed(evaluated), asked, _small([evaluated.inputs]))


def _part(model: ModelExtractor, dataset: Dataset, split: str) -> tuple[Tensor, list[dict[str, Any]], Inputs]:
    """Embeddings, facts and inputs of what is found of one split."""
    facts = _facts(dataset, split)
    if dataset.partners is None:
        return model.embed(dataset), facts, dataset.inputs
    rows, _ = distinct_partners(dataset)
    texts = dataset.partner_texts
    answers = [
        {key: value for key, value in facts[row].items() if key != "text"} | ({"text": texts[row]} if texts else {})
        for row in rows.tolist()
    ]
    return model.embed(dataset, "partner")[rows], answers, take(dataset.partners, rows)


def _write(
    folder: Path, model: ModelExtractor, rows: Tensor, facts: list[dict[str, Any]], small: Mapping[str, NDArray[Any]]
) -> None:
    folder.mkdir(exist_ok=True)  # so that "../model" leads somewhere from it
    FlatIndex.write(folder, model.embedder, rows, facts, model="../model", beside=small)


def _facts(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """What the index knows of each item."""
    facts: list[dict[str, Any]] = [{"id": name, "split": split} for name in dataset.ids]
    columns: dict[str, Sequence[Any]] = {}
    if dataset.classes is not None:
        columns["label"] = [dataset.class_names[label] if label >= 0 else None for label in dataset.classes.tolist()]
    if dataset.groups is not None:
        columns["group"] = dataset.groups
    if dataset.targets is not None:
        columns["target"] = dataset.targets.tolist()
    if dataset.texts is not None:
        columns["text"] = dataset.texts
    if dataset.counts is not None:
        columns["count"] = dataset.counts
    for name, values in columns.items():
        for fact, value in zip(facts, values, strict=True):
            fact[name] = value
    return facts


def _small(parts: Sequence[Inputs]) -> dict[str, NDArray[Any]]:
    """Small copies of images and series, row by row, so that results can be shown wherever the run is moved."""
    if all(isinstance(inputs, Tensor) and inputs.ndim == 4 for inputs in parts):
        small = [_thumbnails(inputs) for inputs in parts if isinstance(inputs, Tensor)]
        return {THUMBNAILS: torch.cat(small).numpy()} if len({one.shape[1:] for one in small}) == 1 else {}
    if all(map(_is_series, parts)):
        outlines = [_outline(one) for inputs in parts for one in inputs if isinstance(one, Tensor)]
        return {OUTLINES: torch.stack(outlines).numpy()}
    return {}


def _is_series(inputs: Inputs) -> bool:
    """Whether every input is (channels, steps); rows of a tensor are not asked one by one."""
    if isinstance(inputs, Tensor):
        return inputs.ndim == 3 and inputs.is_floating_point()
    return all(isinstance(one, Tensor) and one.ndim == 2 and one.is_floating_point() for one in inputs)


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
