"""Data for the examples: 1,797 handwritten digits of 8 x 8 pixels, which come with scikit-learn."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor


def digits() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64) in float64, from 0 to 1, and which digit each image shows."""
    found = load_digits()
    return torch.from_numpy(found.data) / 16, torch.from_numpy(found.target)
