"""Optimisers, and a learning rate that is a function of the step alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuplet.engine.gather import all_reduce_sum
from tuplet.engine.shards import Shards
from tuplet.heads import ClassWeights
from tuplet.models import Embedder
from tuplet.models.layers import rate_shares
from tuplet.training.settings import TrainSettings

RISE_FROM = 1 / 25
"""Where a one-cycle schedule begins, as a share of its peak."""


class Optimizers:
    """Moves everything that learns: one optimiser for most of it, and one for class weights of which a sample is drawn.

    Vectors and scalars are not decayed. The gradient of sampled class weights holds the rows that were drawn: they
    alone move, and the state of the others stays as it is. So these weights are neither decayed nor clipped, and have
    no momentum under SGD. Of class weights that lie in shards each process moves its own; norms and states are of all.

    Args:
        settings: Which optimiser, and how fast.
        modules: What learns.

    Attributes:
        dense: Of all but sampled class weights.
        sampled: Of those; None if there are none.
    """

    def __init__(self, settings: TrainSettings, modules: Iterable[nn.Module]) -> None:
        modules = list(modules)
        learned = [p for module in modules for p in module.parameters() if p.requires_grad]
        tables = {getattr(part, part.table): part for module in modules for part in _parts(module)}
        sampled = [p for p in learned if isinstance(part := tables.get(p), ClassWeights) and part.is_sampled]
        shares = _shares(settings, modules)
        self.dense = _build_dense(settings, [p for p in learned if not any(p is other for other in sampled)], shares)
        self.sampled = _build_sparse(settings, sampled) if sampled else None
        self._shards = {p: tables[p] for p in learned if p in tables and tables[p].is_sharded}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._all():
            optimizer.zero_grad()

    def set_rate(self, rate: float) -> None:
        """Learning rate of the next step."""
        for optimizer in self._all():
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("share", 1.0)

    def clip(self, most: float) -> Tensor:
        """Shorten the gradient of all but sampled class weights to a norm of `most`.

        Returns:
            Its norm before, that of all processes together.
        """
        learned = [p for group in self.dense.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None and p not in self._shards])
        for p in learned:
            if p.grad is not None and p in self._shards:
                squares = all_reduce_sum(torch.linalg.vector_norm(p.grad).square(), self._shards[p].shards)
                norm = torch.hypot(norm, squares.sqrt())
        torch.nn.utils.clip_grads_with_norm_(learned, most, norm)
        return norm

    def step(self) -> None:
        """Move down the gradients."""
        self.dense.step()
        if self.sampled is not None:
            # torch warns unless it is set either way
            with torch.sparse.check_sparse_tensor_invariants(enable=False):  # type: ignore[no-untyped-call]
                self.sampled.step()

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on beside weights and gradients, of all processes; all ask together."""
        state = self._over_shards(self.dense, self.dense.state_dict(), Shards.whole)
        if self.sampled is not None:
            state["sampled"] = self._over_shards(self.sampled, self.sampled.state_dict(), Shards.whole)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; any number of processes can."""
        own = {key: value for key, value in state.items() if key != "sampled"}
        self.dense.load_state_dict(self._over_shards(self.dense, own, Shards.own))
        if self.sampled is not None:
            self.sampled.load_state_dict(self._over_shards(self.sampled, state["sampled"], Shards.own))

    def _all(self) -> list[torch.optim.Optimizer]:
        return [self.dense] if self.sampled is None else [self.dense, self.sampled]

    def _over_shards(
        self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], change: Callable[[Shards, Tensor], Tensor]
    ) -> dict[str, Any]:
        """A state with the rows of sharded parameters changed from those of one process to those of all, or back."""
        learned = [p for group in optimizer.param_groups for p in group["params"]]
        by_number = dict(state["state"])
        for number, p in enumerate(learned):
            if p in self._shards and number in by_number:
                by_number[number] = {
                    name: change(self._shards[p], value) if isinstance(value, Tensor) and value.ndim else value
                    for name, value in by_number[number].items()
                }
        return {**state, "state": by_number}


def count_parameters(modules: Iterable[nn.Module]) -> int:
    """How many numbers learn, those of other processes among them."""
    total = 0
    for module in modules:
        total += sum(p.numel() for p in module.parameters())
        for part in _parts(module):
            table = getattr(part, part.table)
            total += table.numel() // part.units * (part.all_units - part.units)
    return total


def _parts(module: nn.Module) -> list[Shards]:
    """The parts of a module whose rows learn and may be sharded."""
    found = [part for part in module.modules() if isinstance(part, Shards)]
    return [part for part in found if isinstance(getattr(part, part.table), nn.Parameter)]


def _shares(settings: TrainSettings, modules: Iterable[nn.Module]) -> Mapping[nn.Parameter, float]:
    """Shares of the learning rate of what does not move by all of it: layers of encoders, under `layer_decay`."""
    if settings.layer_decay == 1.0:
        return {}
    encoders = [part.encoder for module in modules for part in module.modules() if isinstance(part, Embedder)]
    return {p: share for encoder in encoders for p, share in rate_shares(encoder, settings.layer_decay).items()}


def _build_dense(
    settings: TrainSettings, learned: Sequence[nn.Parameter], shares: Mapping[nn.Parameter, float]
) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = []
    for share in sorted({shares.get(p, 1.0) for p in learned}, reverse=True):
        alike = [p for p in learned if shares.get(p, 1.0) == share]
        more = {} if share == 1.0 else {"share": share}
        groups.append({"params": [p for p in alike if p.ndim > 1], "weight_decay": settings.weight_decay, **more})
        groups.append({"params": [p for p in alike if p.ndim <= 1], "weight_decay": 0.0, **more})
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


def _build_sparse(settings: TrainSettings, learned: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    match settings.optimizer:
        case "adamw" | "adam":
            return torch.optim.SparseAdam(learned, lr=settings.learning_rate)
        case "sgd":
            return torch.optim.SGD(learned, lr=settings.learning_rate)
        case "adagrad":
            return torch.optim.Adagrad(learned, lr=settings.learning_rate)


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
