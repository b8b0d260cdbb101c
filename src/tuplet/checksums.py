"""Checksums: of JSON objects, of whole files, and of large files block by block."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 1 << 20
"""Bytes of a file that share a checksum; what was appended changes the last one alone."""
_SEAL = "checksum"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with a checksum of all the rest of it."""
    return {**content, _SEAL: _of_json(content)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object has the checksum that `sealed` gave it, and nothing was changed since."""
    return content.get(_SEAL) == _of_json({name: value for name, value in content.items() if name != _SEAL})


def file_sum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Blocks:
    """Checksums of a part of a file, one for each mebibyte.

    Args:
        start: First byte that counts.
        end: The byte behind the last one that counts; the file may go on.
        sums: The first 64 bits of the SHA-256 of each block, in hexadecimal digits.
    """

    start: int
    end: int
    sums: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, start: int = 0) -> "Blocks":
        """Of a whole file, from byte `start` on."""
        return cls(start, start, ()).extended(path)

    def extended(self, path: Path) -> "Blocks":
        """The same after something was appended: whole blocks keep their checksums, the rest is read."""
        whole = (self.end - self.start) // BLOCK
        with path.open("rb") as file:
            end = file.seek(0, 2)
            return Blocks(self.start, end, (*self.sums[:whole], *_read_sums(file, self.start + whole * BLOCK, end)))

    def first_damaged(self, path: Path) -> int | None:
        """The byte where the first block starts that is not what it was; None if all are.

        Raises:
            OSError: If the file cannot be read.
        """
        with path.open("rb") as file:
            found = _read_sums(file, self.start, self.end)
        wrong = (at for at, (one, other) in enumerate(zip(found, self.sums, strict=False)) if one != other)
        at = next(wrong, None if len(found) == len(self.sums) else min(len(found), len(self.sums)))
        return None if at is None else self.start + at * BLOCK

    def to_json(self) -> dict[str, Any]:
        """As JSON; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Blocks":
        """What `to_json` wrote."""
        return cls(int(content["start"]), int(content["end"]), tuple(map(str, content["sums"])))


def _read_sums(file: BinaryIO, start: int, end: int) -> list[str]:
    file.seek(start)
    found = []
    for place in range(start, end, BLOCK):
        content = file.read(min(BLOCK, end - place))
        found.append(hashlib.sha256(content).hexdigest()[:16])
    return found


def _of_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
