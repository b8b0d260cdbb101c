"""Tile code compiled by Inductor for the CPU, against the whole matrix; run by test_programs.py, alone."""

import torch

from tuplet.engine import Execution, reference, stream
from tuplet.reductions import Hinge, Softmax, Triplet
from tuplet.relation import SameLabel

COMPILED = Execution(engine="tiles", compiled=True)


def compare(reduction, geometry, tile_size, scale):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    relation = SameLabel(torch.arange(40) % 7 - 1)
    truth = reference(reduction, x, x, relation, geometry, scale=scale)
    found = stream(reduction, x, x, relation, geometry, scale=scale, tile_size=tile_size, execution=COMPILED)
    torch.testing.assert_close(found.value, truth.value, rtol=1e-10, atol=1e-10)
    ours, theirs = (torch.autograd.grad(each.value, x)[0] for each in (found, truth))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


if __name__ == "__main__":
    every = [(Softmax(), "cosine", 10**6), (Softmax(), "cosine", 400), (Hinge(1.0, inside=40), "euclidean", 10**6)]
    every.append((Triplet(0.5), "squared_euclidean", 10**6))
    for each in every:
        compare(*each, scale=3.0)
    before = graphs()
    for each in every:
        compare(*each, scale=2.5)
    print(graphs() - before, "recompiled")  # noqa: T201  # read by the test
