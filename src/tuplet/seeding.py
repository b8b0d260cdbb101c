"""Random generators derived from one seed and a purpose; the only source of randomness."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK = 4096  # rows of a table that are drawn together


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(0, "sampler", epoch)`.

    Different purposes give independent streams; the same purpose gives the same stream on every machine.

    Args:
        seed: Seed of the whole run.
        purpose: Words and numbers that name what the stream is for.

    Returns:
        Integer in [0, 2^63).
    """
    text = "/".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derive(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose; see `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *purpose))


def normal_rows(begin: int, stop: int, width: int, seed: int, *purpose: str | int) -> Tensor:
    """Some rows of a table of standard normal numbers, (stop - begin, width); they do not depend on which are drawn."""
    rows = torch.empty(stop - begin, width)
    for block in range(begin // _BLOCK, -(-stop // _BLOCK)):
        least, most = max(begin, block * _BLOCK), min(stop, (block + 1) * _BLOCK)
        sampled = torch.randn(_BLOCK, width, generator=derive(seed, *purpose, block))
        rows[least - begin : most - begin] = sampled[least - block * _BLOCK : most - block * _BLOCK]
    return rows


@dataclass(frozen=True)
class Draws:
    """Random numbers for some rows of a batch: those that they get when the whole batch is drawn at once.

    Args:
        generator: Of the whole batch.
        before: Rows of the batch that come before these, held by other processes.
        total: Rows of the whole batch; None if these are all.
    """

    generator: torch.Generator
    before: int = 0
    total: int | None = None

    @staticmethod
    def of(source: "Draws | torch.Generator") -> "Draws":
        """Of a generator: draws for a whole batch."""
        return source if isinstance(source, Draws) else Draws(source)

    def rand(self, rows: int, *shape: int) -> Tensor:
        """Uniform in [0, 1): (rows, *shape)."""
        return self._mine(torch.rand, rows, shape)

    def randn(self, rows: int, *shape: int) -> Tensor:
        """Standard normal: (rows, *shape)."""
        return self._mine(torch.randn, rows, shape)

    def _mine(self, draw: Callable[..., Any], rows: int, shape: tuple[int, ...]) -> Tensor:
        total = rows if self.total is None else self.total
        of_all: Tensor = draw(total, *shape, generator=self.generator, device=self.generator.device)
        return of_all[self.before : self.before + rows]
