"""Matrix products of tiles, rows of length one, and spans of one size."""

import torch
from torch import Tensor


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product, accumulated in float32 at least."""
    if x.dtype in (torch.bfloat16, torch.float16):
        if x.device.type == "cuda":
            return torch.mm(x, y, out_dtype=torch.float32)
        return x.float() @ y.float()
    return x @ y


def unit_rows(rows: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Rows of length one, and 1 / length; 0 where there is no direction."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    rate = length.clamp_min(eps).reciprocal()
    return rows * rate, torch.where(length > eps, rate, 0.0)


def equal_spans(total: int, size: int) -> list[tuple[slice, int]]:
    """Slices of one size that cover a range, and how many leading entries of each an earlier one had."""
    size = max(1, min(size, total))
    count = -(-total // size)
    size = -(-total // count)  # equal tiles, as small as they can be
    begins = [min(k * size, total - size) for k in range(count)]
    return [(slice(begin, begin + size), k * size - begin) for k, begin in enumerate(begins)]
