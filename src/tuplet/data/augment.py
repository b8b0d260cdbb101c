"""Random changes of encoder inputs that keep their class: one call for a whole batch, decided by a generator.

Augmentations act between preprocessing and encoder: `encoder(augment(preprocessing(stored), generator))`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.registry import Registry


class Augmentation(Protocol):
    """A random change of a batch of encoder inputs."""

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """The changed batch, of the same shape."""


registry: Registry[Callable[..., Augmentation]] = Registry("augmentation")
register = registry.register


@register("affine")
@dataclass(frozen=True)
class AffineAugment:
    """Images turned, sheared, scaled and shifted a little, and as options cropped, mirrored and lit differently.

    Args:
        rotate: Largest rotation in radians, both ways.
        shear: Largest shear, as tangent.
        scale: Largest change of scale, as a fraction, in each direction on its own.
        shift: Largest shift in pixels, both ways.
        crop: Smallest part of the area that is kept, in (0, 1]; 1 does not crop.
        flip: Mirror left and right with probability one half.
        brightness: Largest change of brightness, in units of the encoder's input.
        contrast: Largest change of contrast, as a fraction.
    """

    rotate: float = 0.05
    shear: float = 0.1
    scale: float = 0.07
    shift: float = 0.5
    crop: float = 1.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0

    def __call__(
        self, inputs: Float[Tensor, "n channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "n channels height width"]:
        raise NotImplementedError


@register("noise")
@dataclass(frozen=True)
class NoiseAugment:
    """Vectors or series with noise, scaled, with some entries dropped.

    Args:
        noise: Standard deviation of Gaussian noise, in units of the encoder's input.
        scale: Largest change of scale of a whole example, as a fraction.
        drop: Probability that an entry is set to 0, in [0, 1).
    """

    noise: float = 0.1
    scale: float = 0.0
    drop: float = 0.0

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError
