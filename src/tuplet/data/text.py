"""Texts as bags of hashed tokens, without a loop over characters."""

from collections.abc import Sequence
from unicodedata import normalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.hashing import mix

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_BLOCK = 4096  # texts hashed together


def hash_texts(
    texts: Sequence[str], *, buckets: int, shortest: int, longest: int, words: bool, lower: bool, most: int
) -> list[Tensor]:
    """Token ids of each text, in [1, buckets): its words, then its character n-grams, which may span words.

    Args:
        texts: What to hash.
        buckets: Size of the id space, at least 2.
        shortest: Length of the shortest n-gram; 0 for none.
        longest: Length of the longest.
        words: Whole words are tokens.
        lower: Case is ignored.
        most: Tokens kept of one text.

    Returns:
        One int32 tensor per text; empty if the text has no tokens.
    """
    found: list[Tensor] = []
    for start in range(0, len(texts), _BLOCK):
        block = [
            " ".join(normalize("NFC", text.lower() if lower else text).replace("\0", " ").split())
            for text in texts[start : start + _BLOCK]
        ]
        owners, hashes = _tokens(block, shortest, longest, words=words)
        ids = (hashes % np.uint64(buckets - 1)).astype(np.int32) + 1
        ends = np.cumsum(np.bincount(owners, minlength=len(block)))
        found += [torch.from_numpy(part[:most].copy()) for part in np.split(ids, ends[:-1])]
    return found


def _tokens(
    texts: list[str], shortest: int, longest: int, *, words: bool
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Owner and hash of each token, sorted by owner.

    With S_i the sum of c_j b^j over the characters before i, the hash of the characters from i to before j is
    (S_j - S_i) b^-i modulo 2^64: one running sum answers for all windows.
    """
    codes = np.frombuffer(
        "\0".join(["", *(f" {text} " for text in texts), ""]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32
    )
    powers, inverses = _powers(_BASE, len(codes)), _powers(_INVERSE, len(codes))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * powers)])
    owner = np.cumsum(codes == 0) - 1
    owners, hashes = [], []
    for length in [0] * words + list(range(shortest or 1, longest + 1 if shortest else 1)):
        if length == 0:
            inside = codes > 32
            starts = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1
            stops = np.flatnonzero(inside[:-1] & ~inside[1:]) + 1
        else:
            starts = np.arange(max(0, len(codes) - length + 1))
            starts = starts[(owner[starts] == owner[starts + length - 1]) & (codes[starts] != 0)]
            stops = starts + length
        owners.append(owner[starts])
        hashes.append(mix((sums[stops] - sums[starts]) * inverses[starts] + np.uint64(length)))
    all_owners = np.concatenate(owners) if owners else np.zeros(0, np.int64)
    order = np.argsort(all_owners, kind="stable")
    return all_owners[order], np.concatenate(hashes)[order] if hashes else np.zeros(0, np.uint64)


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    steps = np.full(count, base, dtype=np.uint64)
    steps[:1] = 1
    return np.cumprod(steps)
