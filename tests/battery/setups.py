"""For every registered loss: how it is built when small, and a batch that it can be called with."""

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tuplet.losses import registry
from tuplet.losses.base import MetricLoss

DIM, CLASSES, EXAMPLES = 6, 4, 40

NEEDED: dict[str, Any] = {  # arguments without a default, and those whose default is large
    "num_classes": CLASSES,
    "dim": DIM,
    "num_instances": EXAMPLES,
    "counts": torch.tensor([9, 5, 3, 1]),
    "latent_dim": DIM,
    "context_dim": 3,
    "steps": 2,
    "noise_samples": 3,
}


class Batch(NamedTuple):
    """Arguments of one call; every floating tensor among `tensors` and `given` is a leaf."""

    tensors: tuple[Tensor, ...]  # by position: embeddings, or latents and contexts
    given: dict[str, Tensor]  # by name: labels or references

    def leaves(self) -> list[Tensor]:
        return [x for x in (*self.tensors, *self.given.values()) if x.requires_grad]

    def changed(self, **given: Tensor) -> "Batch":
        return Batch(self.tensors, self.given | given)

    def take(self, rows: Tensor) -> "Batch":
        """The batch of these rows, as new leaves."""
        return Batch(
            tuple(_leaf(x[rows], x.requires_grad) for x in self.tensors),
            {name: _leaf(x[rows], x.requires_grad) for name, x in self.given.items()},
        )

    def to(self, dtype: torch.dtype) -> "Batch":
        """The batch in another type, as new leaves; labels stay as they are."""

        def cast(x: Tensor) -> Tensor:
            return _leaf(x.to(dtype), x.requires_grad) if x.requires_grad else x.clone()

        return Batch(tuple(map(cast, self.tensors)), {name: cast(x) for name, x in self.given.items()})


def build(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> nn.Module:
    """The loss with the defaults of its constructor, small where it must be given a size."""
    parameters = inspect.signature(registry[name]).parameters
    sizes = {key: value for key, value in NEEDED.items() if key in parameters}
    torch.manual_seed(0)  # initial class weights may come from torch's own generator
    loss = registry[name](**sizes | options).to(dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in loss.parameters():
        if not parameter.any():  # word vectors start at zero, where the gradient of the contexts is zero too
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
    return loss


def is_replayed(name: str) -> bool:
    """Whether calls are recorded and replayed: nothing that the loss keeps or is given differs from call to call."""
    loss = build(name)
    return not loss.has_state and type(loss).forward is MetricLoss.forward


def draws(name: str) -> bool:
    """Whether the loss draws noise, or margins, for each row of a batch."""
    return bool({"noise_samples", "hard_first"} & {*inspect.signature(registry[name]).parameters})


def batch(name: str, rows: int = 12, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    """Rows in general position, all that the loss needs to be above 0, drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return _leaf(torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype), wanted=True)

    supervision = registry[name].supervision
    if supervision == "none":
        return Batch((leaf(rows, 4, DIM), leaf(rows, 4, 3)), {})
    if supervision == "pair":
        return Batch((leaf(rows, DIM),), {"references": leaf(rows, DIM)})
    if supervision == "scored":
        scores = torch.randn(rows, generator=generator, dtype=torch.float64)
        return Batch((leaf(rows, DIM),), {"references": leaf(rows, DIM), "labels": scores})
    labels = {
        "class": torch.arange(rows) % CLASSES,
        "multi": torch.arange(rows) % CLASSES,
        "target": torch.arange(rows) % CLASSES,
        "example": torch.arange(rows) % EXAMPLES,
        "graded": torch.randn(rows, 2, generator=generator, dtype=torch.float64),
    }[supervision]
    return Batch((leaf(rows, DIM),), {"labels": labels})


def _leaf(x: Tensor, wanted: bool) -> Tensor:
    return x.detach().clone().requires_grad_(wanted)
