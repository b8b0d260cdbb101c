"""Whether two losses are one: value and gradient, element by element."""

import torch
from hypothesis import settings
from torch import Tensor

# shares of what the profile says: an example with tiles of one entry takes tens of milliseconds
thorough = settings(max_examples=settings().max_examples // 2)
quick = settings(max_examples=settings().max_examples // 4)


def assert_same(found: Tensor, truth: Tensor, *leaves: Tensor, tolerance: float = 1e-10) -> None:
    """Value and gradients agree to `tolerance`, relative to the value and to the largest element of each gradient."""
    assert found.ndim == 0
    _close(found.detach(), truth.detach(), tolerance, "value")
    if leaves:
        for i, (ours, theirs) in enumerate(zip(gradients(found, *leaves), gradients(truth, *leaves), strict=True)):
            _close(ours, theirs, tolerance, f"gradient of leaf {i}")


def gradients(value: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    """Gradient by each leaf; zeros where the value does not depend on it."""
    return torch.autograd.grad(value, leaves, materialize_grads=True, retain_graph=True)


def _close(found: Tensor, truth: Tensor, tolerance: float, what: str) -> None:
    assert found.dtype == truth.dtype, f"{what}: {found.dtype} is not {truth.dtype}"
    allowed = tolerance * max(1.0, truth.abs().max().item() if truth.numel() else 0.0)
    torch.testing.assert_close(found, truth, rtol=0, atol=allowed, msg=lambda text: f"{what}: {text}\n{found}\n{truth}")
