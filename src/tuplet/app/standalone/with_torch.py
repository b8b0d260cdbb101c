"""The network as a program of torch.export."""

import torch


def embed(folder, inputs):
    """Embeddings (n, dim) of inputs (n, ...)."""
    return torch.export.load(folder / "model.pt2").module()(torch.from_numpy(inputs)).detach().numpy()
