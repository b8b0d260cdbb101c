"""The network as a function of torch's operators, and the tensors that it reads."""

import runpy

import torch
from safetensors.torch import load_file


def embed(folder, inputs):
    """Embeddings (n, dim) of inputs (n, ...)."""
    network = runpy.run_path(str(folder / "model.py"))["embed"]
    return network(load_file(folder / "model.safetensors"), torch.from_numpy(inputs)).numpy()
