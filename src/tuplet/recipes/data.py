"""The data of a recipe: read once, and divided into examples that train, that choose the best step, that evaluate."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuplet.data import Columns, Manifest, read_manifest
from tuplet.data.fingerprint import Fingerprint, Seen
from tuplet.data.glyphs import make_glyphs
from tuplet.data.joined import join
from tuplet.data.labels import SPLITS, UNKNOWN
from tuplet.data.related import relate
from tuplet.data.split import find_leaks, shared_by, split_by_class, split_by_row, units_of
from tuplet.data.statement import parse
from tuplet.errors import DataError, SplitSizeError, counted
from tuplet.recipes.data_warnings import class_sizes
from tuplet.recipes.schema import Data, Split


class Reader:
    """Reads what the data section of a recipe names, and keeps the latest of it.

    Args:
        cache: Folder for data that is generated once.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._manifest: tuple[Data, Manifest] | None = None
        self._parts: tuple[Manifest, Split, Mapping[str, Manifest]] | None = None

    def manifest(self, data: Data) -> Manifest:
        """The data as it is read; see `read_manifest`."""
        key = data.model_copy(update={"split": Split()})
        if self._manifest is None or self._manifest[0] != key:
            self._manifest = key, _without(self._read(data), data.exclude)
        return self._manifest[1]

    def parts(self, manifest: Manifest, split: Split) -> Mapping[str, Manifest]:
        """The same divided; see `divide`."""
        if self._parts is None or self._parts[0] is not manifest or self._parts[1] != split:
            self._parts = manifest, split, divide(manifest, split)
        return self._parts[2]

    def _read(self, data: Data) -> Manifest:
        """All sources as one."""
        others = [data.model_copy(update={"source": one.source, "more": ()}) for one in data.more]
        found = join([self._read_one(one) for one in (data, *others)])
        return found if data.relation is None else relate(found, parse(data.relation), data.arrays)

    def _read_one(self, data: Data) -> Manifest:
        if data.source == "glyphs":
            return make_glyphs(self.cache)
        columns = Columns(**data.columns.model_dump())
        return read_manifest(
            data.source,
            kind=data.kind,
            labels=data.labels,
            targets=data.targets,
            columns=columns,
            skip_broken=data.skip_broken,
            keep=() if data.relation is None else parse(data.relation).names,
            cache=self.cache,
        )


def _without(manifest: Manifest, table: str | None) -> Manifest:
    """The data without the examples that a table of findings excludes."""
    if table is None:
        return manifest
    excluded = read_excluded(Path(table))
    kept = [at for at, name in enumerate(manifest.ids) if name not in excluded]
    note = f"{len(manifest) - len(kept):,} of {len(manifest):,} examples are left out, as {table} says."
    if unknown := len(excluded) - (len(manifest) - len(kept)):
        note += f" {counted(unknown, 'name', 'names')} that it marks {'is' if unknown == 1 else 'are'} not in the data."
    return replace(manifest.take(kept), notes=(*manifest.notes, note))


@dataclass(frozen=True)
class Earlier:
    """What the weights to start from have seen.

    Args:
        given: The data of the run that they come from.
        contents: Digest of each example of the new data, by its name.
    """

    given: Fingerprint
    contents: Mapping[str, str]


def divide(manifest: Manifest, split: Split, earlier: Earlier | None = None) -> Mapping[str, Manifest]:
    """The parts of a data set by name: train, and validation and test where they hold something.

    The splits that the data names come first; what they leave open is drawn: a part of the training examples for
    validation if none is named.

    Args:
        manifest: The data.
        split: How to divide it.
        earlier: What the weights to start from have seen: what it knows stays in its split, the rest is drawn.

    Raises:
        DataError: If nothing is left to train on, a class appears in two splits that should share none, or a split is
            too small to evaluate on; or the data names a split to evaluate on that holds what `earlier` was trained on.
    """
    has_given, by = split.given and manifest.splits is not None, shared_by(manifest, split.by)
    if earlier is not None and not has_given:
        parts = _sampled_after(manifest, split, earlier)
    elif has_given:
        parts = {name: manifest.part(name) for name in ("train", "validation", "test")}
    else:
        parts = _draw(manifest, split, "test", split.test)
    if not parts.get("validation"):
        parts |= _draw(parts["train"], split, "validation", split.validation)
    if not len(parts["train"]):
        raise DataError(
            f"{manifest.source} leaves no example to train on.",
            hint='Say "train" in its split column, or draw the splits with `--set data.split.given=false`.',
            reference="empty-split",
        )
    if has_given and by == "class":
        _refuse_leaks(manifest)
    if earlier is not None:
        _refuse_seen(parts, by, earlier)
    for name in ("validation", "test"):
        _require_two_classes(manifest, name, parts[name], by)
    return {name: part for name, part in parts.items() if len(part)}


def divide_as(manifest: Manifest, kept: Fingerprint) -> Mapping[str, Manifest]:
    """The parts as they were in a run that was given this very data."""
    parts = {}
    for name in SPLITS:
        rows = [row for row, split in enumerate(kept.splits) if split == name]
        if rows:
            parts[name] = manifest.take(rows)
    return parts


def other_splits(manifest: Manifest, split: Split, kept: Fingerprint) -> list[str]:
    """What the data says of splits that it did not say when a run was given it; a sentence, or nothing."""
    if not split.given or manifest.splits is None:
        return []
    sampled = ("train", "validation")  # of what is named train, a part is drawn for validation if none is named
    pairs = zip(manifest.ids, manifest.splits, kept.splits, strict=True)
    changed = [name for name, given, before in pairs if given != before and (given, before) != sampled]
    shown = ", ".join(changed[:3]) + ", ..." * (len(changed) > 3)
    return [f"{counted(len(changed), 'example', 'examples')} ({shown}) with another split"] if changed else []


def _sampled_after(manifest: Manifest, split: Split, earlier: Earlier) -> dict[str, Manifest]:
    """What an earlier run knew stays where it was; only the rest is drawn."""
    before = _splits_before(manifest, shared_by(manifest, split.by), earlier)
    new = [row for row, name in enumerate(before) if name is None]
    sampled = list(before)
    with suppress(DataError):  # too few to divide: they train
        fresh = manifest.take(new)
        parts = _draw(fresh, split, "test", split.test) if new else {}
        parts |= _draw(parts["train"], split, "validation", split.validation) if new else {}
        place = dict(zip(fresh.ids, new, strict=True))
        for name, part in parts.items():
            for one in part.ids:
                sampled[place[one]] = name
    return {
        name: manifest.take([row for row, one in enumerate(sampled) if (one or "train") == name]) for name in SPLITS
    }


def _splits_before(manifest: Manifest, by: str, earlier: Earlier) -> list[str | None]:
    """The split of each example in an earlier run, known by its class or by its name; None for new ones."""
    known, seen = earlier.given, earlier.given.seen()
    names = [split if split != "earlier" else "train" for split in known.splits]
    if by == "class" and manifest.related is None and manifest.labels is not None and known.labels is not None:
        of_class = {label: name for label, name in zip(known.labels, names, strict=True) if label is not None}
        of_class |= dict.fromkeys(seen.classes, "train")
        labels = [manifest.class_names[one] if one >= 0 else None for one in manifest.labels.tolist()]
        return [of_class.get(label) or None if label is not None else "train" for label in labels]
    of_content, of_id = (dict(zip(keys, names, strict=True)) for keys in (known.contents, known.ids))
    contents = [earlier.contents[name] for name in manifest.ids]
    found = [
        "train" if _is_seen(name, content, seen) else of_content.get(content) or of_id.get(name) or None
        for name, content in zip(manifest.ids, contents, strict=True)
    ]
    return _with_their_unit(manifest, found) if by == "class" else found


def _with_their_unit(manifest: Manifest, found: Sequence[str | None]) -> list[str | None]:
    """What is new follows what it belongs to; where that stands in several splits, to training."""
    units = units_of(manifest)
    assert units is not None  # noqa: S101  or the splits would not be by class
    split_of: dict[int, str] = {}
    for unit, name in zip(units.tolist(), found, strict=True):
        if name is not None and unit != UNKNOWN:
            split_of[unit] = name if split_of.get(unit, name) == name else "train"
    return [name or split_of.get(unit) for unit, name in zip(units.tolist(), found, strict=True)]


def _is_seen(name: str, content: str, seen: Seen) -> bool:
    return name in seen.ids or content in seen.contents


def _refuse_seen(parts: Mapping[str, Manifest], by: str, earlier: Earlier) -> None:
    """Training examples cannot be test examples."""
    seen = earlier.given.seen()
    for name in ("validation", "test"):
        part = parts.get(name)
        if part is None or not len(part):
            continue
        found = [one for one in part.ids if _is_seen(one, earlier.contents[one], seen)]
        what = "example" if len(found) == 1 else "examples"
        if by == "class" and part.labels is not None and part.related is None:
            found, what = sorted({part.class_names[one] for one in part.labels if one >= 0} & seen.classes), "classes"
        if found:
            raise DataError(
                f"The weights to start from were trained on {len(found):,} {what} that {part.source} names {name}: "
                f"{', '.join(found[:5])}{', ...' * (len(found) > 5)}.",
                hint="Take them out, name them train, or assign splits at random: --set data.split.given=false",
                reference="seen-before",
            )


def _draw(manifest: Manifest, split: Split, name: str, share: float) -> dict[str, Manifest]:
    """Some of the classes, or rows, under `name`; the rest trains."""
    by_class = shared_by(manifest, split.by) == "class"
    draw, known = (split_by_class, units_of(manifest)) if by_class else (split_by_row, manifest.labels)
    labels: NDArray[np.int64] = np.zeros(len(manifest), np.int64) if known is None else known
    sampled = np.array(
        draw(labels, {"train": 1 - share, name: share}, split.seed) if share else ["train"] * len(labels)
    )
    return {part: manifest.take(np.flatnonzero(sampled == part)) for part in ("train", name)}


def _require_two_classes(manifest: Manifest, name: str, part: Manifest, by: str) -> None:
    """With one class every neighbour is right, and an example that is alone in its class has nothing to find."""
    if part.labels is None or part.related is not None or not len(part):
        return
    _, counts = np.unique(part.labels[part.labels >= 0], return_counts=True)
    if len(counts) >= 2 and counts.max() >= 2:
        return
    if len(sizes := class_sizes(manifest)) and sizes.max() == 1:
        raise DataError(
            f"No class of {manifest.source} has two examples, so there is no positive pair to train or evaluate on.",
            hint="Check which column or folder names the class (--set data.columns.label=NAME), or train without "
            f"evaluation: --set data.split.{name}=0.0",
            reference="no-class-has-two",
        )
    held = f"{counted(len(part), 'example', 'examples')} of {counted(len(counts), 'class', 'classes')}"
    raise SplitSizeError(
        f"The {name} split of {part.source} holds {held}; evaluation takes two classes, one of them with two examples.",
        hint=f"Make it larger, say --set data.split.{name}=0.4, or set it to 0.0."
        + " If there are few classes in all: --set data.split.by=row" * (by == "class"),
        reference="split-too-small",
    )


def _refuse_leaks(manifest: Manifest) -> None:
    leaks = find_leaks(manifest, contents=False)
    if not leaks:
        return
    what = counted(len(leaks), "class", "classes")
    hint = "Give each class one split. If all splits are meant to hold all classes: --set data.split.by=row"
    if manifest.related is not None:
        what = counted(len(leaks), "group of related examples", "groups of related examples")
        hint = "Give what belongs together one split, or let related examples be trained on: --set data.split.by=row"
    shown = ", ".join(f"{leak.name!r} ({' and '.join(leak.splits)})" for leak in leaks[:5])
    raise DataError(
        f"{manifest.source} puts {what} into more than one split: {shown}{', ...' * (len(leaks) > 5)}.",
        hint=hint,
        reference="class-in-two-splits",
    )


def read_excluded(path: Path) -> set[str]:
    """Names of the rows of a table of findings whose column `exclude` says yes.

    Raises:
        DataError: If there is no such table.
    """
    hint = "Give the table that `tuplet audit` wrote, or that its page exported."
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin a table with a mark
            start = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=max(",;\t", key=start.count))
            if not {"id", "exclude"} <= set(rows.fieldnames or ()):
                raise DataError(f"{path} has no columns id and exclude.", hint=hint, reference="exclude-table")
            return {str(row["id"]) for row in rows if str(row["exclude"]).strip().lower() in {"yes", "true", "1", "x"}}
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} cannot be read: {problem}.", hint=hint, reference="exclude-table") from problem
