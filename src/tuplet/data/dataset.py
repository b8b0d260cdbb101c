"""Decoded examples in memory, and what is known about them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tuplet.data.decoded import decode_once
from tuplet.data.manifest import Items, Kind, Manifest
from tuplet.data.related import Related
from tuplet.errors import LabelError
from tuplet.rule import Levels, Rule
from tuplet.types import Supervision

Inputs = Tensor | list[Tensor] | list[str]
"""Stored examples: uint8 images (n, c, h, w), float rows (n, d), series (n, c, t), or a list where lengths differ."""


@runtime_checkable
class Preprocessing(Protocol):
    """What the kinds of preprocessing have in common."""

    kind: ClassVar[Kind]

    def load(self, items: Any) -> Inputs:
        """Stored form of items as in `Manifest.items`, or of a plain list of them.

        Raises:
            DataError: Items that cannot be read, all in one report.
        """

    def fit(self, inputs: Inputs) -> "Preprocessing":
        """A copy whose statistics are those of the training examples."""

    def __call__(self, inputs: Any) -> Any:
        """What the encoder reads."""

    def to_config(self) -> dict[str, Any]:
        """JSON form; `preprocessing_from_config` reads it back."""


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known about each example.

    Args:
        supervision: What `values` mean.
        values: Class ids or positions (n,) in int64, several labels as 0 and 1 (n, labels) in int64, or graded values
            (n, t) in float64.
    """

    supervision: Supervision
    values: Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples as they are stored in memory, decoded once.

    Args:
        kind: What an input is.
        inputs: Stored form of the examples, see `Inputs`.
        ids: Unique name of each example.
        labels: What the loss uses about each example.
        class_names: Name of each class.
        groups: What else an example belongs to.
        roles: "query" or "gallery" for each example, "" for neither; None where the data does not say.
        partners: Second input of each example, where examples are pairs.
        classes: Class of each example, an index into `class_names`, -1 where it is unknown; None without classes.
            Whatever the labels mean, classes can choose the best step and evaluate the result.
        targets: Graded values of each example (n, t); None without. The same is true of them.
        texts: Texts as they were read, to be shown.
        partner_texts: The same of the second inputs.
        related: Which pairs of the examples are positive, where a relation says it.
        counts: Of the words of a vocabulary, how often each occurs.
    """

    kind: Kind
    inputs: Inputs
    ids: tuple[str, ...]
    labels: Labels
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    partners: Inputs | None = None
    classes: Int64[Tensor, " n"] | None = None
    targets: Float64[Tensor, "n t"] | None = None
    texts: tuple[str, ...] | None = None
    partner_texts: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    related: Related | None = None
    counts: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        return self.inputs[position], position


def load_dataset(
    manifest: Manifest,
    preprocessing: Preprocessing,
    supervision: Supervision | None = None,
    partner_preprocessing: Preprocessing | None = None,
    *,
    cache: Path | None = None,
) -> Dataset:
    """Decodes every item of a manifest once.

    Args:
        manifest: What to decode.
        preprocessing: Decides the stored form; see `tuplet.data.transforms`.
        supervision: Which labels the data set carries; by default the first known of classes,
            graded labels, pairs and positions.
        partner_preprocessing: Of the second items of pairs, where it is another one.
        cache: Folder in which decoded images are kept for the next time; None decodes into memory.

    Returns:
        The examples in the order of the manifest.

    Raises:
        DataError: Files that cannot be decoded, all of them in one report.
    """
    partners = None
    if manifest.pairs is not None:
        partners = _loaded(manifest.pairs, partner_preprocessing or preprocessing, cache)
    return Dataset(
        kind=manifest.kind,
        inputs=_loaded(manifest.items, preprocessing, cache),
        ids=manifest.ids,
        labels=labels_of(manifest, supervision),
        class_names=manifest.class_names,
        groups=manifest.groups,
        roles=manifest.roles,
        partners=partners,
        classes=None if manifest.labels is None else torch.from_numpy(manifest.labels),
        targets=None if manifest.targets is None else torch.from_numpy(manifest.targets),
        texts=_texts(manifest.items),
        partner_texts=_texts(manifest.pairs),
        related=manifest.related,
    )


def _loaded(items: Any, preprocessing: Preprocessing, cache: Path | None) -> Inputs:
    are_files = isinstance(items, tuple) and bool(items) and all(isinstance(item, Path) for item in items)
    if cache is None or preprocessing.kind != "image" or not are_files:
        return preprocessing.load(items)
    known = preprocessing.to_config()
    how = {key: known[key] for key in ("resize", "resample") if key in known}
    levels = known["levels"] or None
    return decode_once(items, known["size"], known["channels"], known["fit_by"], cache, levels=levels, **how)


def labels_of(manifest: Manifest, supervision: Supervision | None = None) -> Labels:
    """The labels of a manifest that fit a kind of supervision.

    Args:
        manifest: What is known of the examples.
        supervision: What the labels are to mean; the default is that of `load_dataset`.

    Raises:
        LabelError: The manifest does not know what this supervision needs.
    """
    if supervision is None:
        if manifest.labels is not None:
            supervision = "class"
        elif manifest.targets is not None:
            supervision = "graded"
        else:
            supervision = "example" if manifest.pairs is None else "pair"
    if supervision == "class" and manifest.labels is not None:
        return Labels("class", torch.from_numpy(manifest.labels))
    if supervision == "multi" and manifest.label_sets is not None:
        return Labels("multi", torch.from_numpy(manifest.label_sets.astype(np.int64)))
    if supervision in ("graded", "scored") and manifest.targets is not None:
        return Labels(supervision, torch.from_numpy(manifest.targets))
    if supervision in ("example", "pair", "none"):  # a pair may also be two views of one example
        return Labels(supervision, torch.arange(len(manifest)))
    raise LabelError(
        f"The loss needs labels of kind {supervision!r}, which {manifest.source} does not have.",
        hint="Add a column label (classes), target (graded) or pair, or choose a loss that needs none.",
        reference="missing-labels",
    )


def _texts(items: Items | None) -> tuple[str, ...] | None:
    texts = [item for item in items if isinstance(item, str)] if isinstance(items, tuple) else []
    return tuple(texts) or None


def taken(dataset: Dataset, positions: Int64[Tensor, " chosen"]) -> Dataset:
    """What is known of some examples, without their inputs: enough for a sampler."""
    rows = positions.tolist()
    return replace(
        dataset,
        inputs=[],
        ids=tuple(dataset.ids[row] for row in rows),
        labels=Labels(dataset.labels.supervision, dataset.labels.values[positions]),
        groups=None if dataset.groups is None else tuple(dataset.groups[row] for row in rows),
        partners=None,
        classes=None if dataset.classes is None else dataset.classes[positions],
        targets=None if dataset.targets is None else dataset.targets[positions],
        related=None if dataset.related is None else dataset.related.take(positions),
    )


def take(inputs: Inputs, positions: Int64[Tensor, " chosen"]) -> Inputs:
    """The stored examples of `inputs` at `positions`, in that order."""
    if isinstance(inputs, Tensor):
        return inputs[positions.to(inputs.device)]
    chosen: Any = [inputs[position] for position in positions.tolist()]
    return chosen


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples of a data set.

    Args:
        inputs: Stored form of the examples.
        labels: Their labels, as in `Dataset.labels.values`; None without labels.
        positions: Their rows in the data set, which are also their rows in a memory bank.
        partners: Their second inputs, where examples are pairs.
        relation: Which of them are positives of each other, where a relation says it.
    """

    inputs: Inputs
    labels: Tensor | None
    positions: Int64[Tensor, " batch"]
    partners: Inputs | None = None
    relation: Rule | Levels | None = None


def take_batch(dataset: Dataset, positions: Int64[Tensor, " batch"]) -> Batch:
    """The examples of `dataset` at `positions`, in that order."""
    values = None if dataset.labels.supervision == "none" else dataset.labels.values[positions]
    partners = None if dataset.partners is None else take(dataset.partners, positions)
    relation = None
    if dataset.related is not None and dataset.related.distance is None:
        relation = dataset.related.rule(positions, is_second=partners is not None)
    return Batch(take(dataset.inputs, positions), values, positions, partners, relation)
