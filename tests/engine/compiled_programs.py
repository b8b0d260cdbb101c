"""Tile code compiled by Inductor for the CPU, against the whole matrix; run by test_programs.py, alone."""

import torch
from test_programs import Unmasked

from tuplet.engine import Execution, reference, stream
from tuplet.engine.compiling import _OrEager
from tuplet.heads import NearestCenter
from tuplet.margin import Combined
from tuplet.reductions import Hinge, Softmax, Triplet
from tuplet.relation import Paired, SameLabel

COMPILED = Execution(engine="tiles", compiled=True)


def compare(reduction, geometry, tile_size, scale):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    relation = SameLabel(torch.arange(40) % 7 - 1)
    truth = reference(reduction, x, x, relation, geometry, scale=scale)
    found = stream(reduction, x, x, relation, geometry, scale=scale, tile_size=tile_size, execution=COMPILED)
    torch.testing.assert_close(found.value, truth.value, rtol=1e-10, atol=1e-10)
    ours, theirs = (torch.autograd.grad(each.value, x)[0] for each in (found, truth))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def compare_head(*, stats):
    generator = torch.Generator().manual_seed(2)
    x, w = (torch.randn(n, 6, generator=generator, dtype=torch.float64).requires_grad_() for n in (20, 30))
    relation = Paired(torch.arange(20) + 3, 30)
    given = x, w.view(30, 1, 6), relation, NearestCenter()
    truth = stream(Softmax(), *given, margin=Combined(m2=0.3), scale=8.0, execution=Execution(engine="panels"))
    for tile_size in (10**6, 100):
        found = stream(
            Softmax(), *given, margin=Combined(m2=0.3), scale=8.0, tile_size=tile_size, execution=COMPILED, stats=stats
        )
        torch.testing.assert_close(found.value, truth.value, rtol=1e-10, atol=1e-10)
        ours, theirs = (torch.autograd.grad(each.value, (x, w), retain_graph=True) for each in (found, truth))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


if __name__ == "__main__":
    every = [
        (Softmax(), "cosine", 10**6),
        (Softmax(), "cosine", 400),
        (Hinge(1.0, num_in_batch=40), "euclidean", 10**6),
        (Unmasked("rows"), "dot", 120),
        (Unmasked("crossing"), "dot", 120),
        (Unmasked("local"), "dot", 120),
    ]
    every.append((Triplet(0.5), "squared_euclidean", 10**6))
    for each in every:
        compare(*each, scale=3.0)
    compare_head(stats=False)
    compare_head(stats=True)
    assert not _OrEager.missing, "something could not be compiled"
    before = graphs()
    for each in every:
        compare(*each, scale=2.5)
    print(graphs() - before, "recompiled")  # noqa: T201  # read by the test
