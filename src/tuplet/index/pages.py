"""The files of a flat index: written at their ends, with checksums of what counts."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tuplet.checksums import Blocks
from tuplet.errors import IndexFormatError
from tuplet.index.base import Facts, merged_columns
from tuplet.index.writing import CONFIG, REMEDY, damaged

EMBEDDINGS, ITEMS, CONTENTS, REMOVED = "embeddings.npy", "items.jsonl", "contents.bin", "removed.bin"
HEADER = 128
"""Bytes before the numbers of a `.npy`; they say how many rows follow, and are compared as a whole."""
CHECKED_ON_OPEN = 64 << 20
"""Files up to this size are read and compared when an index is opened; of larger ones the size alone."""


class Pages:
    """The files of an index, as far as its description says that they count.

    Args:
        folder: Where they are.
        content: The description of the index.
        lines: The items, where they are known, and the files are known to be sound.

    Raises:
        IndexFormatError: If files are missing, cut short or changed.
    """

    def __init__(self, folder: Path, content: Mapping[str, Any], lines: list[bytes] | None = None) -> None:
        self.folder, self.dim, self.count = folder, int(content["dim"]), int(content["count"])
        try:
            self.blocks = {str(name): Blocks.from_json(blocks) for name, blocks in content["files"].items()}
            self._has_contents = content["format"] > 1
            written = (EMBEDDINGS, ITEMS, CONTENTS, REMOVED) if self._has_contents else (EMBEDDINGS, ITEMS)
            sizes = {name: self.blocks[name].end for name in written}
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise damaged(folder / CONFIG, f"its checksums cannot be read ({problem!r})") from problem
        size = {EMBEDDINGS: HEADER + 4 * self.count * self.dim, CONTENTS: 16 * self.count}
        expected = size | {REMOVED: 8 * int(content["removed"])}
        if any(sizes.get(name, size) != size for name, size in expected.items()):
            raise damaged(folder / CONFIG, "its counts and the sizes of its files do not fit together")
        self.items = Items(self._checked_lines() if lines is None else lines)

    def _checked_lines(self) -> list[bytes]:
        for name in self.blocks:
            if not (self.folder / name).is_file():
                raise IndexFormatError(f"{self.folder / name} is missing.", hint=REMEDY, reference="missing-file")
        wrong = self.damages(everything=False)
        if wrong:
            raise IndexFormatError(wrong[0], hint=REMEDY, reference="damaged-file")
        lines = self._bytes(ITEMS).split(b"\n")[:-1]
        if len(lines) != self.count:
            raise damaged(self.folder / ITEMS, f"{len(lines)} lines instead of {self.count}")
        return lines

    @staticmethod
    def sums(folder: Path, starts: Mapping[str, int]) -> dict[str, Any]:
        """Checksums of files just written, as the description of an index holds them."""
        return {name: Blocks.of(folder / name, start).to_json() for name, start in starts.items()}

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        """One row per item, memory-mapped."""
        if not self.count:
            return np.empty((0, self.dim), dtype=np.float32)
        path = self.folder / EMBEDDINGS
        return np.memmap(path, dtype="<f4", mode="r", offset=HEADER, shape=(self.count, self.dim))

    @cached_property
    def contents(self) -> NDArray[np.uint8]:
        """Hash of the content of each item (items, 16)."""
        if not self.count or not self._has_contents:
            return np.zeros((self.count, 16), dtype=np.uint8)
        return np.memmap(self.folder / CONTENTS, dtype=np.uint8, mode="r", shape=(self.count, 16))

    @cached_property
    def removed(self) -> NDArray[np.int64]:
        """Rows that no longer count."""
        content = self._bytes(REMOVED) if self._has_contents else b""
        return np.frombuffer(content, dtype="<i8").astype(np.int64)

    def array(self, name: str) -> NDArray[Any] | None:
        """An array beside the items."""
        if name not in self.blocks:
            return None
        return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)

    def append(self, added: Mapping[str, bytes]) -> dict[str, Any]:
        """Write at the ends of files, to the disk; the checksums that the description is to hold."""
        blocks = dict(self.blocks)
        if EMBEDDINGS in added:
            self.write_header(header(self.count, self.dim))  # an interrupted process may have said more
        for name, content in added.items():
            with (self.folder / name).open("r+b") as file:
                file.truncate(blocks[name].end)  # what an interrupted process wrote does not count
                file.seek(0, 2)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            blocks[name] = blocks[name].extended(self.folder / name)
        return {name: found.to_json() for name, found in blocks.items()}

    def write_header(self, content: bytes) -> None:
        """Say how many rows there are, for whoever reads the array without tuplet."""
        with (self.folder / EMBEDDINGS).open("r+b") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def damages(self, *, everything: bool) -> list[str]:
        """What is wrong with the files, one sentence each; large ones are read only if asked for."""
        return [f"{self.folder / name} {what}" for name in self.blocks if (what := self._damage(name, everything))]

    def _damage(self, name: str, everything: bool) -> str | None:
        path, blocks = self.folder / name, self.blocks[name]
        try:
            size = path.stat().st_size
            if size < blocks.end:
                return f"is damaged: {size} bytes instead of {blocks.end}."
            if name == EMBEDDINGS and (what := self._damaged_header(path, size)):
                return f"is damaged: {what}."
            if everything or blocks.end <= CHECKED_ON_OPEN:
                at = blocks.first_damaged(path)
                return None if at is None else f"is damaged: it was changed somewhere after byte {at}."
        except OSError as problem:
            return f"could not be read: {problem.strerror or problem}."
        return None

    def _damaged_header(self, path: Path, size: int) -> str | None:
        """Rows that were written last may not count yet, or the header not yet say so."""
        with path.open("rb") as file:
            found = file.read(HEADER)
        rows = (size - HEADER) // (4 * self.dim)
        said = re.search(rb"'shape': \((\d{1,18}),", found)
        is_sound = said is not None and self.count <= int(said[1]) <= rows and found == header(int(said[1]), self.dim)
        return None if is_sound or found == header(self.count, self.dim) else "its header is not that of these rows"

    def _bytes(self, name: str) -> bytes:
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(self.blocks[name].end)
        except OSError as problem:
            message = f"{self.folder / name} could not be read: {problem.strerror or problem}."
            raise IndexFormatError(message, hint=REMEDY, reference="missing-file") from problem


def of_first_format(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What the description of an index of tuplet 0.1 does not say.

    Nothing was ever added or removed, and there were no checksums: the files count as they are now.

    Raises:
        IndexFormatError: If files are missing or of other sizes than the description says.
    """
    count, dim = content.get("count"), content.get("dim")
    if not isinstance(count, int) or not isinstance(dim, int):
        raise damaged(folder / CONFIG, "'count' or 'dim' missing or of the wrong kind")
    try:
        lines = Items((folder / ITEMS).read_bytes().splitlines())
        files = Pages.sums(folder, {EMBEDDINGS: HEADER, ITEMS: 0})
    except OSError as problem:
        message = f"{problem.filename or folder} could not be read: {problem.strerror or problem}."
        raise IndexFormatError(message, hint=REMEDY, reference="missing-file") from problem
    try:
        columns = merged_columns({}, lines)
    except (ValueError, AttributeError) as problem:
        raise damaged(folder / ITEMS, f"a line is no item ({problem})") from problem
    return {"removed": 0, "columns": columns, "files": files}


class Items(Sequence[Facts]):
    """Lines of JSON, each parsed when it is asked for."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    @overload
    def __getitem__(self, at: int) -> Facts: ...
    @overload
    def __getitem__(self, at: slice) -> "Items": ...
    def __getitem__(self, at: int | slice) -> "Facts | Items":
        return Items(self.lines[at]) if isinstance(at, slice) else json.loads(self.lines[at])

    def __len__(self) -> int:
        return len(self.lines)


def header(count: int, dim: int) -> bytes:
    """The first bytes of a `.npy` with `count` float32 rows, always as many of them."""
    content = BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (count, dim)})
    return content.getvalue()
