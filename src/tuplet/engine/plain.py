"""What tile code does where it runs as it is written: derivatives by autograd, and exponentials for a CPU.

Compiled tile code is derived by `torch.func`, which a compiler sees through; run as it is, that takes most of the time
of a small batch.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import threshold

LEAST = {torch.float32: -80.0, torch.float64: -700.0}
"""Exponents below count as those of nothing. Beside the largest, which is 1, they are; and a CPU takes twenty times as
long where a result is too small for its type, exp(-inf) among them."""


def vjp(function: Callable[[Any], Any], given: Any, *, has_aux: bool = False) -> tuple[Any, ...]:
    """As `torch.func.vjp`, of a function of one tensor or of tensors by name, whose value is one or the other too."""
    if torch.compiler.is_compiling():
        return torch.func.vjp(function, given, has_aux=has_aux)
    named = {"": given} if isinstance(given, Tensor) else given
    leaves = {name: x.detach().requires_grad_() for name, x in named.items()}
    with torch.enable_grad():
        found = function(leaves[""] if named is not given else leaves)
    value, *aux = found if has_aux else (found,)

    def back(by: Any) -> tuple[Any]:
        pairs = [(value, by)] if isinstance(value, Tensor) else [(x, by[name]) for name, x in value.items()]
        asked = [(x, coefficient) for x, coefficient in pairs if x.requires_grad]
        if not asked:
            grads = [torch.zeros_like(x) for x in leaves.values()]
        else:
            outputs, coefficients = zip(*asked, strict=True)
            inputs = list(leaves.values())
            grads = list(torch.autograd.grad(outputs, inputs, coefficients, materialize_grads=True))
        return (grads[0] if named is not given else dict(zip(leaves, grads, strict=True)),)

    return value, back, *aux


def exponential(x: Tensor) -> Tensor:
    """exp(x) of numbers up to 0, in place; of those far below it is 0."""
    least = LEAST[x.dtype]
    return threshold(x.clamp_min_(least).exp_(), math.exp(least) * 1.001, 0.0, inplace=True)


class LogSumExp(torch.autograd.Function):
    """Of the pairs where a mask is true, along some axes; their shares stay for the derivative."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, where: Tensor, axes: tuple[int, ...]) -> Tensor:
        """-inf of nothing."""
        shifted = torch.where(where, value, -torch.inf)
        peak = shifted.amax(axes, keepdim=True)
        peak.masked_fill_(peak == -torch.inf, 0.0)  # of nothing; inf - inf is no number
        mass = exponential(shifted.sub_(peak)).sum(axes, keepdim=True)
        ctx.save_for_backward(shifted, mass)
        ctx.axes = axes
        return (mass.log() + peak).squeeze(axes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The shares."""
        shares, mass = ctx.saved_tensors
        for axis in sorted(ctx.axes):
            grad = grad.unsqueeze(axis)
        return shares * (grad / torch.where(mass > 0, mass, 1.0)), None, None
