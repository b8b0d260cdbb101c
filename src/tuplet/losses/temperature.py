"""The temperature that divides similarities: a number, or learned."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.engine.gather import shared
from tuplet.errors import ShapeError

MAX_SCALE = 100.0
"""A learned scale does not grow beyond this (Radford et al., "Learning Transferable Visual Models", 2021, 2.5)."""


class Temperature(nn.Module):
    r"""$\tau > 0$; if learned, the parameter is $\log(1/\tau)$, capped where $1/\tau = 100$.

    Args:
        temperature: A number, or "learned".
        start: Where a learned temperature starts.
    """

    def __init__(self, temperature: float | Literal["learned"], start: float) -> None:
        super().__init__()
        if temperature != "learned" and not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
            raise ShapeError(
                f"temperature is {temperature!r}; a number above 0 or 'learned' is expected.",
                hint="Usual values lie between 0.01 and 1.",
                reference="temperature-range",
            )
        self.fixed = None if temperature == "learned" else float(temperature)
        self.log_scale = None if self.fixed is not None else nn.Parameter(torch.tensor(math.log(1 / start)))

    def value(self, processes: Processes = SINGLE_PROCESS) -> float | Tensor:
        """The temperature; a tensor with gradient if learned."""
        if self.log_scale is None:
            return self.fixed or 1.0
        log_scale = shared(self.log_scale, processes)
        return (-log_scale.clamp_max(math.log(MAX_SCALE))).exp()


def scale_of(temperature: float | Tensor) -> float | Tensor:
    """1 / temperature.

    Raises:
        ShapeError: If a number is not above 0.
    """
    if not isinstance(temperature, Tensor) and not 0 < temperature < math.inf:
        raise ShapeError(
            f"temperature is {temperature!r}; a number above 0 is expected.",
            hint="Usual values lie between 0.01 and 1.",
            reference="temperature-range",
        )
    return 1 / temperature
