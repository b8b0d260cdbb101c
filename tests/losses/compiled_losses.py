"""`torch.compile(fullgraph=True)` of an encoder with each registered loss; run by test_compile.py, alone."""

import sys

import torch

from battery.setups import batch, build
from tuplet.engine import Execution
from tuplet.losses import registry


def gradients(value, given, loss):
    leaves = [*given.leaves(), *loss.parameters()]
    return torch.autograd.grad(value, leaves, materialize_grads=True)


def compare(name, engine):
    given = batch(name)
    truth, loss = build(name), build(name)
    for each in (truth, loss):
        each.execution = Execution(engine=engine)
    step = torch.compile(
        lambda *tensors, **sides: 2 * loss(*tensors, **sides), fullgraph=True, backend="aot_eager", dynamic=False
    )
    found, expected = step(*given.tensors, **given.given), 2 * truth(*given.tensors, **given.given)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(gradients(found, given, loss), gradients(expected, given, truth), strict=True):
        torch.testing.assert_close(ours, theirs)


if __name__ == "__main__":
    engine, every = sys.argv[1], int(sys.argv[2])
    for name in list(registry)[::every]:
        torch._dynamo.reset()
        compare(name, engine)
        print(name)  # noqa: T201  # read by the test
