"""float32 is compared with float64: no worse than the plain path in float32, plus a few roundings."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import oracles
from oracles.comparison import gradients
from tuplet.losses import a_softmax, arcface, contrastive, cosface, info_nce, log_ratio, npair, nt_xent, supcon, triplet

LABELS = torch.arange(24) % 5
CENTERS = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
VALUES = torch.arange(10.0) ** 1.2

LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], oracles.Truth]]] = {
    "contrastive": (lambda x: contrastive(x, LABELS, margin=3.0), lambda x: oracles.contrastive(x, LABELS, margin=3.0)),
    "contrastive-note": (
        lambda x: contrastive(x, LABELS, convention="note"),
        lambda x: oracles.contrastive(x, LABELS, convention="note"),
    ),
    "triplet": (lambda x: triplet(x, LABELS), lambda x: oracles.triplet(x, LABELS)),
    "triplet-euclidean-squared-hinge": (
        lambda x: triplet(x, LABELS, geometry="euclidean", power=2),
        lambda x: oracles.triplet(x, LABELS, geometry="euclidean", power=2),
    ),
    "supcon": (lambda x: supcon(x, LABELS), lambda x: oracles.supcon(x, LABELS)),
    "supcon-cold": (
        lambda x: supcon(x, LABELS, temperature=0.01),
        lambda x: oracles.supcon(x, LABELS, temperature=0.01),
    ),
    "nt_xent": (lambda x: nt_xent(x[:12], references=x[12:]), lambda x: oracles.nt_xent(x[:12], x[12:])),
    "info_nce": (
        lambda x: info_nce(x[:12], x[12:], symmetric=True),
        lambda x: oracles.info_nce(x[:12], x[12:], symmetric=True),
    ),
    "npair": (lambda x: npair(x, LABELS), lambda x: oracles.npair_per_pair(x, LABELS)),
    "cosface": (
        lambda x: cosface(x, CENTERS.to(x), LABELS),
        lambda x: oracles.combined_margin(x, CENTERS.to(x), LABELS, m2=0.0, m3=0.35),
    ),
    "arcface": (
        lambda x: arcface(x, CENTERS.to(x), LABELS),
        lambda x: oracles.combined_margin(x, CENTERS.to(x), LABELS, m2=0.5, m3=0.0),
    ),
    "a_softmax": (
        lambda x: a_softmax(x, CENTERS.to(x), LABELS),
        lambda x: oracles.a_softmax(x, CENTERS.to(x), LABELS),
    ),
    "log_ratio": (lambda x: log_ratio(x[:10], VALUES), lambda x: oracles.log_ratio(x[:10], VALUES.double())),
}
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "usual": lambda x: x,
    "small": lambda x: x / 100,
    "far from the origin": lambda x: x + 100,
    "nearly equal": lambda x: 1 + x / 1000,
}


def errors(loss: Callable[[Tensor], Tensor], x: Tensor, truth: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """How far value and gradient in float32 are from the truth, relative to its size."""
    x = x.detach().clone().requires_grad_()
    value = loss(x)
    (gradient,) = gradients(value, x)
    off = (gradient.double() - truth[1]).abs().max() / truth[1].abs().max().clamp_min(1e-30)
    return (abs(value.item() - truth[0].item()) / max(abs(truth[0].item()), 1e-30), off.item())


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_no_worse_than_the_plain_path(name, inputs):
    ours, plain = LOSSES[name]
    x = INPUTS[inputs](torch.randn(24, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).float()
    exact = x.double().requires_grad_()
    value = plain(exact).value
    truth = value.detach(), gradients(value, exact)[0]
    found, allowed = errors(ours, x, truth), errors(lambda x: plain(x).value, x, truth)
    # half as much again: errors of one size differ by the luck of their roundings
    assert found[0] <= 1.5 * allowed[0] + 1e-6
    assert found[1] <= 1.5 * allowed[1] + 3e-6
