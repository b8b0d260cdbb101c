"""Mixed precision on a CPU: autocast and a GradScaler around the encoder, and what cannot be differentiated twice."""

import copy

import pytest
import torch

from tuplet.errors import TupletError
from tuplet.losses import SupConLoss, TripletLoss

LABELS = torch.arange(24) % 6


def steps(encoder, dtype, loss, count=5):
    """Train with embeddings of this type; the weights."""
    encoder = copy.deepcopy(encoder)
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, enabled=dtype == torch.float16)
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            embeddings = encoder(torch.randn(24, 8, generator=generator))
        assert embeddings.dtype == dtype
        value = loss(embeddings, LABELS)
        assert value.dtype == torch.float32
        optimiser.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimiser)
        scaler.update()
        loss.advance()
    return torch.cat([weight.detach().flatten() for weight in encoder.parameters()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [SupConLoss(), TripletLoss(margin=1.0)], ids=["supcon", "triplet"])
def test_steps_in_mixed_precision_are_those_in_float32_but_for_rounding(dtype, loss):
    torch.manual_seed(0)
    encoder = torch.nn.Linear(8, 6)
    start = torch.cat([weight.detach().flatten() for weight in encoder.parameters()])
    truth = steps(encoder, torch.float32, loss)
    apart = (steps(encoder, dtype, loss) - truth).norm() / (truth - start).norm()
    assert 0 < apart < 64 * torch.finfo(dtype).eps


def test_an_overflow_skips_the_step_and_lowers_the_scale():
    encoder = torch.nn.Linear(8, 6)
    optimiser, scaler = torch.optim.SGD(encoder.parameters(), lr=0.05), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = encoder.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.float16):
        embeddings = encoder(torch.randn(24, 8))
    scaler.scale(SupConLoss()(embeddings, LABELS)).backward()
    scaler.step(optimiser)
    scaler.update()
    assert torch.equal(encoder.weight, before)
    assert scaler.get_scale() < 2.0**40


def test_a_second_derivative_is_refused_in_words():
    x = torch.randn(24, 6, requires_grad=True)
    for loss in (SupConLoss(), TripletLoss(), TripletLoss(select="swap")):
        (gradient,) = torch.autograd.grad(loss(x, LABELS), x, create_graph=True)
        with pytest.raises(TupletError) as caught:
            gradient.square().sum().backward()
        assert caught.value.reference == "double-backward"
