"""Hashes: of whole examples, and of arrays of numbers at once."""

import hashlib
from collections import Counter
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.manifest import Items, Manifest


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads close numbers over all 64 bits, one to one (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def digests(items: Items) -> list[str | bytes]:
    """Something short that is equal for equal items; a file that no other one equals in size is not read."""
    if isinstance(items, tuple) and items and isinstance(items[0], Path):
        files = [Path(str(item)) for item in items]
        sizes = [file.stat().st_size for file in files]
        alike = Counter(sizes)
        return [
            _digest(file.read_bytes()) if alike[size] > 1 else str(file)
            for file, size in zip(files, sizes, strict=True)
        ]
    return [
        normalize("NFC", item) if isinstance(item, str) else _digest(np.ascontiguousarray(item).tobytes())
        for item in items
    ]


def content_ids(manifest: Manifest) -> Int64[Tensor, "n sides"]:
    """Ids of the contents of each example, one column per side of a pair; on a side, equal ids mean equal contents."""
    sides = [manifest.items] if manifest.pairs is None else [manifest.items, manifest.pairs]
    columns = []
    for side in sides:
        ids: dict[str | bytes, int] = {}
        columns.append([ids.setdefault(digest, len(ids)) for digest in digests(side)])
    return torch.tensor(columns, dtype=torch.int64).T.contiguous()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
