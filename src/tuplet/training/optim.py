"""Optimisers, and a learning rate that is a function of the step alone."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from tuplet.training.settings import TrainSettings

RISE_FROM = 1 / 25
"""Where a one-cycle schedule begins, as a share of its peak."""


def build_optimizer(settings: TrainSettings, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
    """The optimiser of everything that learns in `modules`; vectors and scalars are not decayed."""
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate, fused = settings.learning_rate, all(p.is_floating_point() for p in learned)
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, fused=fused)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate)


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Learning rate of one step.

    Args:
        settings: Peak, schedule and warm-up.
        step: 0 <= step < settings.steps.
    """
    rising = settings.warmup * settings.steps
    if step < rising:
        share = (step + 1) / (math.floor(rising) + 1)
        if settings.schedule == "one-cycle":
            share = 1 - (1 - RISE_FROM) * _fall(share)
        return settings.learning_rate * share
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "steps":
        return settings.learning_rate * 0.1 ** sum(step >= drop * settings.steps for drop in settings.drops)
    progress = (step - rising) / (settings.steps - rising)
    return settings.learning_rate * (1 - progress if settings.schedule == "linear" else _fall(progress))


def _fall(progress: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2
