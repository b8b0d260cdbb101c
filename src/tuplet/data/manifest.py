"""One row per example: what a folder, a table or an array holds, checked before anything is decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tuplet.data.related import Related

Kind = Literal["image", "vector", "text", "series", "words"]
Need = Literal["label", "target", "pair", "split", "group"]
Items = tuple[Path, ...] | tuple[str, ...] | tuple[NDArray[Any], ...] | NDArray[Any]
"""Image paths, texts, series of unequal length, or an array of examples along its first axis, perhaps memory-mapped."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """A data set before decoding, whatever it was read from.

    Args:
        kind: What an item is.
        ids: Unique name of each example.
        items: What `load_dataset` decodes, in the order of `ids`.
        labels: Class id of each example, an index into `class_names`; -1 where it is unknown; None without classes.
        class_names: Name of each class.
        label_sets: Where an example may have several labels: which ones, one column for each label. Its class is then
            the whole set.
        targets: Graded labels, one row per example.
        pairs: The second item of each example, where examples are pairs.
        pair_kind: What a second item is; None: the same as an item.
        splits: "train", "validation" or "test" for each example; "" for none of them.
        groups: What else an example belongs to, e.g. the type family of a glyph.
        roles: "query" or "gallery" for each example, "" for neither, where the source says which are queries and which
            gallery.
        source: Where all this was read, for messages and reports.
        lines: Line of each example in the source, counted from 1.
        columns: Of a table: which column was read as what; None where there is none.
        unread: Columns of a table that were not read.
        metadata: The cells of these columns, where they were asked for: an index can filter by them.
        left_out: Files of a folder that are no examples, each with the reason.
        notes: Sentences for the user about how the source was read.
        sources: Which of several sources each example is from, counted from 0; None of one source.
        related: Which pairs of the examples are positive, where a relation says it.
        kept: What has to stay as long as the items are read, such as a folder of unpacked files.
    """

    kind: Kind
    ids: tuple[str, ...]
    items: Items
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    label_sets: NDArray[np.bool_] | None = None
    targets: NDArray[np.float64] | None = None
    pairs: Items | None = None
    pair_kind: Kind | None = None
    splits: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    source: str = "memory"
    lines: tuple[int, ...] | None = None
    columns: "Columns | None" = None
    unread: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    sources: NDArray[np.int64] | None = None
    related: "Related | None" = None
    kept: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> "Manifest":
        """The examples at `positions`, in that order; classes keep their ids."""
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(
            self,
            ids=_pick(self.ids, chosen),
            items=_pick(self.items, chosen),
            labels=None if self.labels is None else self.labels[chosen],
            label_sets=None if self.label_sets is None else self.label_sets[chosen],
            targets=None if self.targets is None else self.targets[chosen],
            pairs=None if self.pairs is None else _pick(self.pairs, chosen),
            splits=None if self.splits is None else _pick(self.splits, chosen),
            groups=None if self.groups is None else _pick(self.groups, chosen),
            roles=None if self.roles is None else _pick(self.roles, chosen),
            sources=None if self.sources is None else self.sources[chosen],
            related=None if self.related is None else self.related.take(chosen),
            lines=None if self.lines is None else _pick(self.lines, chosen),
            metadata={name: _pick(cells, chosen) for name, cells in self.metadata.items()},
        )

    def column_roles(self) -> dict[str, list[str]]:
        """Of a table the names of the columns by what they were read as, under "unread" the others; else empty."""
        if self.columns is None:
            return {}
        names = {
            key: getattr(self.columns, key) for key in ("path", "text", "pair", "label", "group", "id", "split", "role")
        }
        numbers = {"input": self.columns.inputs, "target": self.columns.targets}
        found = {key: [*known] for key, known in numbers.items() if known}
        found |= {key: [] if name is None else [name] for key, name in names.items()}
        found |= {} if self.related is None else {"relation": [*self.related.statement.names]}
        always = {"label", "group", "id"}
        return {key: known for key, known in found.items() if known or key in always} | {"unread": [*self.unread]}

    def part(self, split: str) -> "Manifest":
        """The examples of one split."""
        splits = self.splits or ()
        return self.take([position for position, name in enumerate(splits) if name == split])


def rare_classes(manifest: Manifest, least: int = 2) -> tuple[str, ...]:
    """Names of the classes with fewer than `least` examples: a loss that needs pairs cannot learn from them.

    Args:
        manifest: What to look at; classes without any example here are not named.
        least: Examples a class should have.
    """
    if manifest.labels is None:
        return ()
    known, counts = np.unique(manifest.labels[manifest.labels >= 0], return_counts=True)
    return tuple(manifest.class_names[label] for label in known[counts < least].tolist())


def _pick(values: Any, positions: NDArray[np.int64]) -> Any:
    if isinstance(values, np.ndarray):
        return values[positions]
    return tuple(values[position] for position in positions.tolist())


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; None means that no column is one.

    Args:
        id: Unique name of an example.
        path: File of an image, relative to the table.
        text: A text.
        label: Class.
        several: What stands between the labels of an example that has several, such as "|"; by default a cell is one.
        pair: Second item of a pair: a text beside `text`, a file beside `path`. Without it, a table with both `text`
            and `path` holds pairs of a text and an image; `kind` says which of them asks.
        split: "train", "validation" or "test".
        group: What else an example belongs to.
        role: "query" or "gallery": the role of an example in the evaluation.
        inputs: Numeric columns; by default `x0, x1, ...`, or every numeric column that has no other meaning.
        targets: Graded labels; by default every column whose name starts with `target`.
        header: Whether the first line of a CSV table holds the names; without, they are `column1`, `column2`, ...
    """

    id: str | None = "id"
    path: str | None = "path"
    text: str | None = "text"
    label: str | None = "label"
    several: str = ""
    pair: str | None = "pair"
    split: str | None = "split"
    group: str | None = "group"
    role: str | None = "role"
    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    header: bool = True


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a table says about its rows, apart from the inputs themselves; see `Manifest`."""

    ids: tuple[str, ...] | None
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    targets: NDArray[np.float64] | None
    splits: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    roles: tuple[str, ...] | None = None
    label_sets: NDArray[np.bool_] | None = None
