"""A recipe for data that nobody has written one for, and the reasons for it."""

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tuplet.data import Kind, Manifest
from tuplet.data.folders import is_stray
from tuplet.data.hashing import content_ids
from tuplet.data.split import count_units, find_leaks, holds_together, units_of
from tuplet.errors import DataError, SplitSizeError, counted
from tuplet.recipes.data import Reader
from tuplet.recipes.data_warnings import OPEN_FROM, class_sizes, looks_continuous, some
from tuplet.recipes.dump import written
from tuplet.recipes.load import Document, complete, merged, parsed, read_document
from tuplet.recipes.proposed import (
    FEW_ROWS,
    HIDDEN,
    LAYERS,
    LITTLE,
    MANY,
    PASSED,
    SHORT,
    UNMIRRORED,
    VIEWS,
    WIDE,
    shape_of_images,
    training,
)
from tuplet.recipes.schema import PATHS, Recipe, Split
from tuplet.sampling.paired import largest_batch

PRESETS = {"image": "own-images", "vector": "own-vectors", "series": "own-series", "text": "own-texts"}
NOUNS = {"image": "images", "vector": "rows of numbers", "series": "series", "text": "texts"}
BATCH = 128
"""Examples of a proposed batch."""
Heading = tuple[str, ...]


@dataclass
class Proposal:
    """A recipe that suits some data.

    Args:
        source: The data.
        kind: What an example is.
        preset: What the recipe extends.
        examples: How many there are; 0 of a text.
        classes: How many classes they have; 0 where nothing names any.
        document: What it says beyond that.
        reasons: Why, by the heading of each table of the document: one or more sentences.
        manifest: What was read of the data; None of running text.
        reader: Who read and divided it.
    """

    source: Path
    kind: Kind
    preset: str
    examples: int = 0
    classes: int = 0
    document: Document = field(default_factory=dict)
    reasons: dict[Heading, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    reader: Reader = field(default_factory=lambda: Reader(Path()))

    def say(self, heading: Heading, reason: str, **values: Any) -> None:
        """Add a table, or to one."""
        for key in reversed(heading):
            values = {key: values}
        self.document = merged(self.document, values)
        self.reasons[heading] = " ".join(filter(None, [self.reasons.get(heading), reason]))

    @property
    def recipe(self) -> Recipe:
        """The proposed recipe, with every default filled in."""
        document = merged(read_document(self.preset), self.document)
        return complete(document, (), name=self.source.stem, origin=f"The recipe for {self.source.name}")

    def text(self, folder: Path) -> str:
        """The same as a file to edit, with its reasons as comments.

        Args:
            folder: Where the file will lie: paths start there.
        """
        parts = [f'extends = "{self.preset}"\n']
        for heading, values in _tables((), self.document):
            if heading == ("data",):
                values |= {key: _beside(values[key], folder) for key in PATHS if key in values}
            if heading == ("data", "arrays"):
                values |= {name: _beside(file, folder) for name, file in values.items()}
            reason = self.reasons.get(heading, "")
            # what is typed stays on one line
            whole = re.sub(r"--set \S+|\w+ = \S+", lambda typed: typed[0].replace(" ", "\0"), reason)
            comment = textwrap.fill(whole, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
            parts.append(f"{comment}\n{written(heading, values)}".replace("\0", " ").lstrip())
        return "\n".join(parts)


def recipe_for(source: Path, overrides: Sequence[str] = (), reader: Reader | None = None) -> Recipe:
    """The recipe that `propose` proposes.

    Args:
        source: As for `propose`.
        overrides: As for `propose`.
        reader: As for `propose`.
    """
    return propose(source, overrides, reader).recipe


def propose(source: Path, overrides: Sequence[str] = (), reader: Reader | None = None) -> Proposal:
    """The preset for the kind of the data, fitted to what is known of its examples, and why.

    Args:
        source: Folder, table, array or series; plain text asks for word vectors.
        overrides: As for `load_recipe`; they come last.
        reader: Reads and divides the data, and can hand it on to `build`.

    Raises:
        DataError: If the data cannot be read, or tells nothing to learn from.
        RecipeError: If an override makes no sense.
    """
    source, asked = source.resolve(), parsed(overrides)
    if _is_text(source):
        made = _for_words(source)
    else:
        data: Document = {"data": {"source": str(source), **asked.get("data", {})}}
        naive = complete(merged(read_document("own-vectors"), data), (), name=source.stem, origin=str(source))
        reader = reader or Reader(Path())
        manifest = reader.manifest(naive.data)
        made = _for_examples(source, manifest, reader)
        if asked.get("loss", {}).get("name") == "cpc" and manifest.kind == "series":
            _fit_prediction(made, manifest)
    made.document = merged(made.document, asked)
    made.reasons |= {heading: "As asked for." for heading, _ in _tables((), asked)}
    _ = made.recipe  # refuses overrides that make no sense
    return made


def _tables(heading: Heading, document: Document) -> Iterator[tuple[Heading, dict[str, Any]]]:
    """The tables of a document that say something; values of a table come before the tables within it."""
    nested = {key: value for key, value in document.items() if isinstance(value, dict)}
    values = {key: "none" if value is None else value for key, value in document.items() if key not in nested}
    if values:
        yield heading, values
    for key, value in nested.items():
        yield from _tables((*heading, key), value)


def _beside(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _is_text(source: Path) -> bool:
    """Plain text, or a folder of nothing else; `.txt` files inside folders may be what is said of images."""
    if source.is_dir():
        entries = [entry for entry in source.iterdir() if not is_stray(entry)]
        return bool(entries) and all(entry.suffix == ".txt" for entry in entries)
    return source.suffix == ".txt"


def _for_words(source: Path) -> Proposal:
    """More passes over a small text, so that each word is met often enough."""
    files = [file for file in source.glob("*.txt") if not is_stray(file)] if source.is_dir() else [source]
    if not source.exists():
        raise DataError(
            f"{source}: no such file or folder.",
            hint="Check the path and run the command again.",
            reference="missing-file",
        )
    size = sum(file.stat().st_size for file in files)
    epochs = int(np.clip(PASSED // max(1, size), 4, 50))
    made = Proposal(source, "words", "words")
    made.say(("data",), f"{source.name} is plain text: each word gets a vector.", source=str(source))
    made.say(("train",), f"With {size:,} bytes, {epochs} epochs let each word occur often enough.", epochs=epochs)
    return made


def _for_examples(source: Path, manifest: Manifest, reader: Reader) -> Proposal:
    count, classes = len(manifest), len(class_sizes(manifest))
    made = Proposal(source, manifest.kind, PRESETS[manifest.kind], count, classes, manifest=manifest, reader=reader)
    noun = NOUNS[manifest.kind]
    is_small = manifest.labels is None and manifest.targets is not None and count < FEW_ROWS
    if manifest.related is not None and not manifest.related.statement.is_distance:
        known, fit = "that a relation compares", _fit_relation
    elif manifest.labels is not None:
        known, fit = f"of {made.classes} classes", _fit_classes
    elif manifest.targets is not None:
        known, fit = f"with {counted(manifest.targets.shape[1], 'graded label', 'graded labels')}", _fit_targets
    elif manifest.pairs is not None:
        known, fit = "that each have a partner", _fit_pairs
    else:
        known, fit = "without labels", _fit_views
    about = f"{source.name} holds {len(manifest):,} {noun} {known}."
    if manifest.unread:
        about += f" Not read: {some(manifest.unread)}."
    made.say(("data",), about, source=str(source))
    if manifest.kind == "image":
        size, channels = shape_of_images(manifest.items)
        made.say(
            ("model", "preprocessing"),
            f"The images have {counted(channels, 'channel', 'channels')}; {size} pixels are near their own size, or "
            f"the most that trains in minutes.",
            name="image",
            size=size,
            channels=channels,
        )
    elif manifest.kind == "vector":
        made.say(
            ("model", "encoder"),
            f"{LAYERS[is_small]} If the rows are series: --set data.kind=series.",
            name="mlp",
            hidden=HIDDEN[is_small],
            norm="batch",
        )
    fit(made, manifest)
    is_wide = made.document["batch"].get("classes_per_batch", 0) >= WIDE["classes_per_batch"]
    why, values = training(manifest.kind, is_small=is_small, is_wide=is_wide)
    if values and manifest.pairs is None:
        made.say(("train",), why, **values)
    return made


def _fit_classes(made: Proposal, manifest: Manifest) -> None:
    split, train = _split(manifest, made.reader)
    count = len(class_sizes(manifest))
    sizes = class_sizes(train)
    if not (sizes >= 2).any():
        raise DataError(
            f"No class of {made.source} has two examples to train on, so there is no pair to learn from.",
            hint="Check which column or folder names the class: --set data.columns.label=NAME",
            reference="no-class-has-two",
        )
    if manifest.splits is not None:
        shared = [leak.name for leak in find_leaks(manifest, contents=False)]
        why = "The data names its splits; no class appears in two of them."
        if shared:
            why = f"The data names its splits; {counted(len(shared), 'class', 'classes')} of {count} "
            why += f"{'stands' if len(shared) == 1 else 'stand'} in more than one of them: {some(shared)}. "
            why += "So the evaluation is on new examples of known classes."
    elif split.by == "class":
        why = f"{count} classes are enough to generalise to unseen ones: whole classes are held out."
    else:
        why = (
            f"{count} classes are too few to generalise to unseen ones; that takes {OPEN_FROM} or more. So "
            f"every part holds all classes, and the evaluation is on new examples of known classes."
        )
    if looks_continuous(manifest):
        why += " The classes look like measurements; if they are, call the column target: near ones are then alike."
    _say_split(made, split, why)
    made.say(
        ("loss",),
        "Classes with some examples of each in a batch suit the supervised contrastive loss. For a fixed set of "
        'classes: name = "arcface", with a batch named "uniform".',
        name="supcon",
        temperature=0.1,
    )
    most = 8 if split.by == "class" else 16
    per_class = int(np.clip(np.quantile(sizes[sizes >= 2], SHORT, method="lower"), 2, most))
    there = int((sizes >= 2).sum())
    classes = max(1, min(there, BATCH // per_class))
    if manifest.kind == "image" and there >= MANY:
        classes, per_class = WIDE["classes_per_batch"], min(per_class, WIDE["per_class"])
    held = f"{sizes.min()} to {sizes.max()} examples, {int(np.median(sizes))} in the middle"
    if sizes.min() == sizes.max():
        held = f"{sizes.min()} examples each"
    if manifest.kind == "image":
        why = f"Rotated, sheared, scaled and shifted a little, which preserves the class of an image. {UNMIRRORED}"
        made.say(("train", "augment"), why, **LITTLE)
    made.say(
        ("batch",),
        f"Training classes have {held}: a batch takes {per_class} of each of {classes}.",
        name="per-class",
        classes_per_batch=classes,
        per_class=per_class,
    )


def _fit_relation(made: Proposal, manifest: Manifest) -> None:
    made.say(("loss",), "It takes any number of positives of an anchor.", name="supcon", temperature=0.1)
    if units_of(manifest) is None:
        train = _hold_out_rows(made, manifest, "What belongs together no column tells: rows are held out.")
    else:
        split, train = _split(manifest, made.reader)
        why = "What belongs together no column tells: the split is by the classes, and may part it."
        if holds_together(manifest):
            end = "whole ones are held out." if split.by == "class" else f"holding out whole ones takes {OPEN_FROM}."
            why = f"The relation holds examples together in {counted(count_units(manifest), 'group', 'groups')}; {end}"
        _say_split(made, split, "The data names its splits." if manifest.splits is not None else why)
    size = max(2, min(BATCH, len(train)))
    made.say(("batch",), "Anchors, and a positive of each.", name="related", batch_size=size)
    made.say(("train",), "No augmentation: the relation may read what it would change.", augment=None)


def _fit_targets(made: Proposal, manifest: Manifest) -> None:
    made.say(
        ("loss",),
        "Continuous labels: distances of embeddings follow distances of labels.",
        name="log_ratio",
    )
    _fit_rows(made, manifest)
    made.say(("train",), "No augmentation: it could change the measured label.", augment=None)


def _fit_pairs(made: Proposal, manifest: Manifest) -> None:
    made.say(
        ("loss",),
        "Pairs: each query against all positives of the batch, and the reverse.",
        name="info_nce",
        temperature=0.05,
        symmetric=True,
    )
    train = _hold_out_rows(made, manifest)
    contents = content_ids(train)
    different = min(len(side.unique()) for side in contents.T)
    size = max(1, min(different // 2, largest_batch(contents, BATCH)))
    made.say(
        ("batch",),
        f"No batch holds the same query or positive twice; {different:,} of the training pairs differ on both sides.",
        name="paired",
        batch_size=size,
    )
    made.say(("train",), "The partner is the other view.", augment=None)
    if manifest.pair_kind == "text":
        why = "The second items are texts, which take an encoder of their own."
        made.say(("model", "partner_encoder"), why, name="bag-of-words")
    elif manifest.pair_kind == "image" and manifest.pairs is not None:
        size, channels = shape_of_images(manifest.pairs)
        why = "The second items are images, which take an encoder of their own."
        made.say(("model", "partner_encoder"), why, name="conv-small")
        seen = {"name": "image", "size": size, "channels": channels}
        why = f"{size} pixels are near their own size, or the most that trains in minutes."
        made.say(("model", "partner_preprocessing"), why, **seen)


def _fit_views(made: Proposal, manifest: Manifest) -> None:
    made.say(
        ("loss",),
        "Without labels, two augmented views of an example are a positive pair, and all others are negatives. "
        'Another choice: name = "instance_discrimination", which keeps a memory bank of all examples.',
        name="nt_xent",
        temperature=0.2,
    )
    _fit_rows(made, manifest)
    why = "The embedding learns to be invariant to this augmentation."
    why += f" {UNMIRRORED}" if made.kind == "image" else ""
    made.say(("train", "augment"), why, **VIEWS[made.kind])


def _fit_prediction(made: Proposal, manifest: Manifest) -> None:
    made.say(
        ("model", "encoder"), "Future latents are predicted from contexts along the series.", name="series-context"
    )
    made.say(("loss",), "Of the latents, the next four are predicted.", name="cpc", steps=4)
    made.say(("model",), "The loss compares contexts with latents; angles compare contexts.", geometry="cosine")
    size = max(1, min(BATCH // 4, len(made.reader.parts(manifest, made.recipe.data.split)["train"])))
    why = "Labels are not used in training: series are sampled uniformly."
    made.say(("batch",), why, name="uniform", batch_size=size)
    long = "Series are taken as they are; long ones in parts: --set train.augment={name='series',window=512}"
    made.say(("train",), long, augment=None)


def _fit_rows(made: Proposal, manifest: Manifest) -> None:
    """Split and batch of data without classes."""
    train = _hold_out_rows(made, manifest)
    size = max(1, min(BATCH, len(train)))
    made.say(("batch",), f"A batch takes {size} of {len(train):,} training examples.", name="uniform", batch_size=size)


def _hold_out_rows(made: Proposal, manifest: Manifest, why: str = "Without classes, rows are held out.") -> Manifest:
    split = Split(by="row", test=0.3, validation=0.15)
    parts = made.reader.parts(manifest, split)
    _say_split(made, split, "The data names its splits." if manifest.splits is not None else why)
    return parts["train"]


def _say_split(made: Proposal, split: Split, reason: str) -> None:
    made.say(("data", "split"), reason, by=split.by, test=split.test, validation=split.validation)


def _split(manifest: Manifest, reader: Reader) -> tuple[Split, Manifest]:
    """By class if there are many, else by row; the smaller the data, the larger the share of the test split."""
    if manifest.splits is not None:
        is_open = not find_leaks(manifest, contents=False)
    else:
        is_open = count_units(manifest) >= OPEN_FROM
    by: Literal["class", "row"] = "class" if is_open else "row"
    for test, validation in ((0.3, 0.15), (0.4, 0.3)):
        split = Split(by=by, test=test, validation=validation)
        try:
            return split, reader.parts(manifest, split)["train"]
        except SplitSizeError:
            continue
    split = Split(by=by, test=0.5, validation=0.0)
    return split, reader.parts(manifest, split)["train"]
