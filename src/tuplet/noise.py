"""Noise words drawn from a power of their counts, in constant time per draw."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tuplet.errors import ShapeError


class AliasTable(nn.Module):
    r"""Draws word w with probability $P_n(w) = \max(\mathrm{count}_w, 1)^p / Z$, by Vose's alias method.

    Args:
        counts: How often each word occurs; counts below 1 are raised to 1, so that every word can be drawn.
        power: p; 1 is the unigram distribution, 0 the uniform one.

    Raises:
        ShapeError: If there is no count, or one is not a finite number >= 0.
    """

    probability: Tensor
    keep: Tensor
    alias: Tensor

    def __init__(self, counts: Sequence[int] | Tensor, power: float = 0.75) -> None:
        super().__init__()
        numbers = torch.as_tensor(counts).double().reshape(-1)
        if not len(numbers) or not bool((torch.isfinite(numbers) & (numbers >= 0)).all()):
            raise ShapeError(
                f"{len(numbers)} word counts were given, or some are negative or not finite.",
                hint="Pass one count >= 0 for each word of the vocabulary.",
                reference="word-counts",
            )
        weight = numbers.clamp_min(1) ** power
        probability = weight / weight.sum()
        keep, alias = _vose(probability.numpy())
        self.register_buffer("probability", probability)
        self.register_buffer("keep", torch.from_numpy(keep))
        self.register_buffer("alias", torch.from_numpy(alias))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Word ids of that shape, with replacement."""
        column = torch.randint(len(self.keep), shape, generator=generator, device=generator.device)
        chance = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        column, chance = column.to(self.keep.device), chance.to(self.keep.device)
        return torch.where(chance < self.keep[column], column, self.alias[column])

    def log_expected(self, samples: int) -> Tensor:
        """log(k P_n(w)) of every word, for k noise samples, float64."""
        return self.probability.log() + math.log(samples)


def _vose(probability: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[np.ndarray, np.ndarray]:
    """Fill columns of height one: each keeps its own word up to `keep` and gives the rest to `alias`."""
    height = probability * len(probability)
    keep, alias = np.ones_like(height), np.arange(len(height))
    small, large = [int(i) for i in np.flatnonzero(height < 1)], [int(i) for i in np.flatnonzero(height >= 1)]
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], alias[low] = height[low], high
        height[high] = (height[high] + height[low]) - 1
        if height[high] < 1:
            small.append(large.pop())
    return keep, alias
