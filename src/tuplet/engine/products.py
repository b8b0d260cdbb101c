"""Matrix products of tiles, and spans of one size."""

import torch
from torch import Tensor


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product, accumulated in float32 at least."""
    if x.dtype in (torch.bfloat16, torch.float16):
        if x.device.type == "cuda":
            return torch.mm(x, y, out_dtype=torch.float32)
        return x.float() @ y.float()
    return x @ y


def add_product(goal: Tensor, x: Tensor, y: Tensor) -> None:
    """Add a matrix product to what is there; x is rounded to the type of y first."""
    x = x.to(y.dtype)
    if x.dtype == goal.dtype:
        goal.addmm_(x, y)
    elif goal.device.type == "cuda" and goal.dtype == torch.float32:
        torch.addmm(goal, x, y, out_dtype=torch.float32, out=goal)
    else:
        goal += multiply(x, y)


def equal_spans(total: int, size: int) -> list[tuple[slice, int]]:
    """Slices of one size that cover a range, and how many leading entries of each an earlier one had."""
    size = max(1, min(size, total))
    count = -(-total // size)
    size = -(-total // count)  # equal tiles, as small as they can be
    begins = [min(k * size, total - size) for k in range(count)]
    return [(slice(begin, begin + size), k * size - begin) for k, begin in enumerate(begins)]
