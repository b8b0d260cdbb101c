"""What a training was given, example by example: so that it goes on with the same, and what it has seen is known."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data.decoded import key_of
from tuplet.data.manifest import Items, Manifest
from tuplet.errors import DataError, counted
from tuplet.storage import replaced_file, write_file

SEEN = ("train", "earlier")
"""Splits whose examples have moved weights; earlier: those of the run that the weights come from."""
_FORMAT = 1
_SHOWN = 3
_REMEDY = "Copy the folder of the run again from where it came."


@dataclass(frozen=True)
class Fingerprint:
    """The data of a training. Rows of all fields belong together.

    Args:
        ids: Name of each example.
        splits: "train", "validation", "test"; "" for none of them; "earlier" for an example that is not in the data,
            and that the run from which the weights come was trained on.
        contents: Digest of each example, of both sides if it is a pair.
        labels: Class of each example, None where it is unknown; None without classes.
        groups: Group of each example.
        targets: Graded values of each example.
        roles: "query", "gallery" or "" for each example; None where the data does not say which are queries and which
            gallery.
        related: Digest of each example, of what a relation asks about it; None without one.
        columns: Names of the columns that were the input, where it was a table of numbers.
        kind: What an item is.
    """

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    contents: tuple[str, ...]
    labels: tuple[str | None, ...] | None = None
    groups: tuple[str, ...] | None = None
    targets: tuple[tuple[float, ...], ...] | None = None
    columns: tuple[str, ...] | None = None
    kind: str = ""
    roles: tuple[str, ...] | None = None
    related: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(manifest: Manifest, cache: Path | None = None) -> "Fingerprint":
        """That of a data set which is not divided yet.

        Args:
            manifest: All examples.
            cache: Folder in which the digests of files are kept for the next time.
        """
        labels = None if manifest.labels is None else manifest.labels.tolist()
        sides = [_contents(side, cache) for side in (manifest.items, manifest.pairs) if side is not None]
        return Fingerprint(
            ids=manifest.ids,
            splits=("",) * len(manifest),
            contents=tuple(map("-".join, zip(*sides, strict=True))),
            labels=None if labels is None else tuple(manifest.class_names[one] if one >= 0 else None for one in labels),
            groups=manifest.groups,
            targets=None if manifest.targets is None else tuple(map(tuple, manifest.targets.tolist())),
            columns=manifest.columns.inputs if manifest.columns is not None else None,
            kind=manifest.kind,
            roles=manifest.roles,
            related=None if manifest.related is None else manifest.related.digests,
        )

    def divided(self, parts: Mapping[str, Manifest]) -> "Fingerprint":
        """With the split of each example; `parts` are the examples of each."""
        split = {name: part for part, examples in parts.items() for name in examples.ids}
        return replace(self, splits=tuple(split.get(name, "") for name in self.ids))

    def present(self) -> "Fingerprint":
        """Without the examples that are not in the data."""
        return self.taken([row for row, split in enumerate(self.splits) if split != "earlier"])

    def taken(self, rows: Sequence[int]) -> "Fingerprint":
        """The examples of some rows."""

        def picked(values: Any) -> Any:
            return None if values is None else tuple(values[row] for row in rows)

        return replace(
            self,
            ids=picked(self.ids),
            splits=picked(self.splits),
            contents=picked(self.contents),
            labels=picked(self.labels),
            groups=picked(self.groups),
            targets=picked(self.targets),
            roles=picked(self.roles),
            related=picked(self.related),
        )

    def after(self, earlier: "Fingerprint") -> "Fingerprint":
        """This data, for weights that come from a run of other data: with the examples that it was trained on."""
        mine = set(zip(self.ids, self.contents, strict=True))
        entries = zip(earlier.ids, earlier.contents, earlier.splits, strict=True)
        rows = [
            row for row, (name, content, split) in enumerate(entries) if split in SEEN and (name, content) not in mine
        ]
        gone = earlier.taken(rows)

        def joined(key: str, missing: Any) -> Any:
            mine, theirs = getattr(self, key), getattr(gone, key)
            if mine is None and not theirs:
                return mine
            return (*(mine or [missing] * len(self)), *(theirs or [missing] * len(gone)))

        return replace(
            self,
            ids=(*self.ids, *gone.ids),
            splits=(*self.splits, *["earlier"] * len(gone)),
            contents=(*self.contents, *gone.contents),
            labels=joined("labels", None),
            groups=joined("groups", ""),
            targets=joined("targets", ()),
            roles=joined("roles", ""),
            related=joined("related", ""),
        )

    def seen(self) -> "Seen":
        """What of this has moved weights."""
        rows = [row for row, split in enumerate(self.splits) if split in SEEN]
        classes = [self.labels[row] for row in rows] if self.labels is not None else []
        return Seen(
            ids=frozenset(self.ids[row] for row in rows),
            contents=frozenset(self.contents[row] for row in rows),
            classes=frozenset(name for name in classes if name is not None),
        )

    def write(self, path: Path) -> str:
        """Write one example a line, whole or not at all; the digest of the file."""
        head = {"format": _FORMAT, "kind": self.kind, "columns": self.columns}
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *self._lines()))
        write_file(path, text)
        return _digest(text.encode())

    @staticmethod
    def read(path: Path, digest: str | None = None) -> "Fingerprint":
        """What `write` wrote.

        Args:
            path: The file.
            digest: What `write` returned; None takes the file as it is.

        Raises:
            DataError: If the file is missing or damaged.
        """
        content = path.read_bytes() if path.is_file() else b""
        if not content:
            raise DataError(f"{path} is missing.", hint=_REMEDY, reference="missing-file")
        try:
            if digest not in (None, _digest(content)):
                raise ValueError("its digest differs")  # noqa: TRY301  one message for all that can be wrong
            head, *lines = map(json.loads, content.decode().split("\n")[:-1])
            return _from_lines(head, lines)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise DataError(f"{path} is damaged: {problem}.", hint=_REMEDY, reference="damaged-file") from problem

    def _lines(self) -> Iterator[dict[str, Any]]:
        for row, name in enumerate(self.ids):
            line: dict[str, Any] = {"id": name, "split": self.splits[row], "content": self.contents[row]}
            known = {"label": self.labels, "group": self.groups, "target": self.targets, "role": self.roles}
            known["related"] = self.related
            for key, values in known.items():
                if values is not None:
                    line[key] = values[row]
            yield line


@dataclass(frozen=True)
class Seen:
    """What has moved the weights of a model.

    Args:
        ids: Names of the examples.
        contents: Their digests.
        classes: Their classes.
    """

    ids: frozenset[str] = field(default_factory=frozenset)
    contents: frozenset[str] = field(default_factory=frozenset)
    classes: frozenset[str] = field(default_factory=frozenset)


def differences(kept: Fingerprint, now: Fingerprint) -> list[str]:
    """What is no longer as it was, one sentence for each kind; nothing if all is.

    Args:
        kept: What a training was given.
        now: What it would go on with; its splits do not count.
    """
    if kept.kind != now.kind:
        return [f"it holds examples of the kind {now.kind}, and held {kept.kind}"]
    said = []
    if kept.columns != now.columns and None not in (kept.columns, now.columns):
        said.append(f"the input is {', '.join(now.columns or ())}, and was {', '.join(kept.columns or ())}")
    place = {name: row for row, name in enumerate(now.ids)}
    known = set(kept.ids)
    added, gone = [n for n in now.ids if n not in known], [n for n in kept.ids if n not in place]
    said += [f"{_examples(added)} more"] if added else []
    said += [f"{_examples(gone)} fewer"] if gone else []
    rows = [(row, place[name]) for row, name in enumerate(kept.ids) if name in place]
    if not (added or gone) and any(before != after for before, after in rows):
        said.append("the examples are in another order")
    for what, one, before, after in (
        ("classes", "another class", kept.labels, now.labels),
        ("groups", "another group", kept.groups, now.groups),
        ("targets", "other targets", kept.targets, now.targets),
        ("roles", "another role", kept.roles, now.roles),
        ("related columns", "other related columns", kept.related, now.related),
        ("contents", "another content", kept.contents, now.contents),
    ):
        if before is None or after is None:
            said += [f"it has {what} now, and had none"] if after is not None else []
            said += [f"it had {what}, and has none now"] if before is not None else []
            continue
        changed = [kept.ids[old] for old, new in rows if before[old] != after[new]]
        said += [f"{_examples(changed)} with {one}"] if changed else []
    return said


def _examples(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
    return f"{counted(len(names), 'example', 'examples')} ({shown})"


def _from_lines(head: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Fingerprint:
    if head["format"] != _FORMAT:
        raise ValueError(f"format {head['format']!r}")

    def column(key: str) -> tuple[Any, ...] | None:
        return tuple(line[key] for line in lines) if lines and key in lines[0] else None

    targets = column("target")
    return Fingerprint(
        ids=column("id") or (),
        splits=column("split") or (),
        contents=column("content") or (),
        labels=column("label"),
        groups=column("group"),
        targets=None if targets is None else tuple(map(tuple, targets)),
        columns=None if head["columns"] is None else tuple(head["columns"]),
        kind=head["kind"],
        roles=column("role"),
        related=column("related"),
    )


def _contents(items: Items, cache: Path | None) -> list[str]:
    """Digest of each item: of the bytes of a file, of a text, of the numbers of a row."""
    if not (isinstance(items, tuple) and items and isinstance(items[0], Path)):
        return [
            _digest(item.encode("utf-8", "surrogatepass"))
            if isinstance(item, str)
            else _digest(np.ascontiguousarray(item).tobytes())
            for item in items
        ]
    files = [Path(str(item)) for item in items]
    kept = None if cache is None else cache / f"contents-{key_of(files, (_FORMAT,))}.txt"
    if kept is not None and kept.is_file() and len(known := kept.read_text().split()) == len(files):
        return known
    found = [_digest(file.read_bytes()) for file in files]
    if kept is not None:
        with suppress(DataError), replaced_file(kept, error=DataError, shared=True) as draft:  # no cache is no loss
            draft.write_text("\n".join(found))
    return found


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
