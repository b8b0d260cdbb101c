"""Bring collections into an index: items are known by name and content, and only what is new is embedded."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuplet.data import Manifest
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.engine.gather import all_gather, all_reduce_sum
from tuplet.errors import DataError, counted
from tuplet.index.base import Index
from tuplet.index.facts import facts_of_collection
from tuplet.types import Side

BATCH = 1024
"""Items that are added at once, and lost at most when a process dies."""
_SHOWN = 5


@dataclass(frozen=True)
class Added:
    """What became of a collection.

    Args:
        items: How many it holds.
        there: How many were there before, as they are.
        added: How many are new.
        replaced: How many took the place of another content of the same name.
        embedded: How many were embedded; the embedding of a known content is taken over.
    """

    items: int
    there: int
    added: int
    replaced: int
    embedded: int


def add(
    index: Index,
    manifest: Manifest,
    *,
    prefix: str = "",
    replacing: bool = False,
    side: Side = "query",
    batch_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> Added:
    """Add the items of a collection that an index does not hold.

    An item is the same if its name and its content are; each batch is on the disk before the next one is embedded, so
    that the same call after an interruption goes on where it stopped.

    Args:
        index: Where to.
        manifest: The collection.
        prefix: Stands before each name.
        replacing: An item whose name is there with another content takes its place.
        side: Which side of pairs the items are on.
        batch_size: Items embedded at once.
        progress: Called with (items done, items that are new) after each batch.
        processes: Who shares the work: each embeds a part of every batch, the first one writes. All call this with
            the same collection, each with the index opened by itself.

    Raises:
        DataError: If names are there with another content, an item cannot be read, or an embedding is not finite.
        IndexFormatError: If the index cannot be written.
    """
    names = [prefix + name for name in manifest.ids]
    contents = _contents(manifest, processes)
    new, changed = _new(index, names, contents, replacing=replacing)
    new = all_gather(torch.tensor(new if processes.rank == 0 else [], dtype=torch.int64), processes).tolist()
    facts, count, each = facts_of_collection(manifest, names), 0, BATCH * processes.size
    for start in range(0, len(new), each):
        chosen = new[start : start + each]
        own = share(chosen, processes)
        rows, fresh = embedded(index, manifest, own, [contents[at] for at in own], side, batch_size)
        rows = all_gather(rows, processes)
        count += int(all_reduce_sum(torch.tensor(fresh), processes))
        if processes.rank == 0:
            given = [facts[at] for at in chosen], [contents[at] for at in chosen]
            index.insert(*given, rows, keep=not replacing)
        if progress is not None:
            progress(start + len(chosen), len(new))
    if new and processes.rank == 0:
        index.settle()
    return Added(len(names), len(names) - len(new), len(new) - changed, changed, count)


def share(items: Any, processes: Processes) -> Any:
    """The part of this process of something that can be sliced; the parts of all follow each other."""
    each = -(-len(items) // processes.size)
    return items[each * processes.rank : each * (processes.rank + 1)]


def _contents(manifest: Manifest, processes: Processes) -> list[str]:
    """The content of each item; each process reads its own part."""
    own = [content_of(manifest.items[at]) for at in share(range(len(manifest)), processes)]
    digests = torch.tensor([list(bytes.fromhex(content)) for content in own], dtype=torch.uint8).reshape(len(own), 16)
    return [bytes(row).hex() for row in all_gather(digests, processes).tolist()]


def _new(index: Index, names: Sequence[str], contents: Sequence[str], *, replacing: bool) -> tuple[list[int], int]:
    """Positions of the items that are not there as they are, and how many of their names are there."""
    new, changed = [], 0
    for start in range(0, len(names), BATCH):
        known = index.known(names[start : start + BATCH])
        for at in range(start, min(start + BATCH, len(names))):
            if known.get(names[at]) != contents[at]:
                new.append(at)
                changed += names[at] in known
                if names[at] in known and not replacing:
                    _refuse_changed(index, names, contents)
    return new, changed


def content_of(item: Any) -> str:
    """Hash of what an item is: the bytes of a file, a text, or numbers with their shape; 128 bits in hex digits."""
    if isinstance(item, Path):
        try:
            with item.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as problem:
            raise DataError(
                f"{item} could not be read: {problem.strerror or problem}.",
                hint="Check the path, and whether you may read it.",
                reference="missing-file",
            ) from problem
    elif isinstance(item, str):
        digest = hashlib.sha256(b"text\n" + item.encode()).hexdigest()
    else:
        numbers = np.ascontiguousarray(item.numpy() if isinstance(item, Tensor) else item)
        if numbers.dtype.kind == "f":
            numbers = numbers.astype("<f8")  # the same rows are equal, from a table and from an array
        head = f"{numbers.dtype.str} {numbers.shape}\n".encode()
        digest = hashlib.sha256(head + numbers.tobytes()).hexdigest()
    return digest[:32]


def embedded(
    index: Index, manifest: Manifest, chosen: Sequence[int], contents: Sequence[str], side: Side, batch_size: int
) -> tuple[Tensor, int]:
    """Embeddings of some items, and how many of them had to be made."""
    known = index.vectors_of(set(contents))
    rows = torch.empty(len(chosen), index.dim)
    fresh = list({content: at for at, content in reversed(list(enumerate(contents))) if content not in known}.values())
    part = manifest.take([chosen[at] for at in fresh])
    made = _stream(index, part, side, batch_size)
    known |= {contents[at]: row.numpy() for at, row in zip(fresh, made, strict=True)}
    for at, content in enumerate(contents):
        rows[at] = torch.from_numpy(known[content])
    return rows, len(fresh)


def _stream(index: Index, part: Manifest, side: Side, batch_size: int) -> Iterator[Tensor]:
    if not len(part):
        return
    embedder = index.embedder.side(side)
    for rows in embedder.stream(replace(part, pairs=None).items, batch_size=batch_size):
        yield from rows


def _refuse_changed(index: Index, names: Sequence[str], contents: Sequence[str]) -> None:
    """Say which names are there with another content."""
    known = index.known(names)
    changed = [name for name, content in zip(names, contents, strict=True) if known.get(name, content) != content]
    shown = ", ".join(map(repr, changed[:_SHOWN])) + ", ..." * (len(changed) > _SHOWN)
    raise DataError(
        f"The index holds {counted(len(changed), 'item', 'items')} of the same name with another content: {shown}. "
        "Nothing of this collection was added.",
        hint="If they have changed: --replace. If they are others: --prefix NAME/ makes their names different.",
        reference="name-taken",
    )
