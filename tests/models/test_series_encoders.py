"""Padding changes nothing, and contexts do not see the future."""

import math

import pytest
import torch

from tuplet.models import build_encoder
from tuplet.models.series import true_lengths

NOISE = torch.Generator().manual_seed(11)
SERIES = [torch.randn(2, steps, generator=NOISE) for steps in (1, 2, 3, 8, 17, 40)]
ENCODERS = {
    "conv": {"name": "series-conv", "channels": 2, "dim": 5},
    "conv-mean": {"name": "series-conv", "channels": 2, "dim": 5, "pool": "mean", "norm": "none"},
    "conv-max": {
        "name": "series-conv",
        "channels": 2,
        "dim": 5,
        "pool": "max",
        "kernels": (4, 2, 3),
        "strides": (3, 1, 2),
    },
    "context": {"name": "series-context", "channels": 2, "dim": 5},
    "context-last": {"name": "series-context", "channels": 2, "dim": 5, "pool": "last", "strides": (1, 2)},
}
every_encoder = pytest.mark.parametrize("config", ENCODERS.values(), ids=ENCODERS)


def padded(series, steps):
    return torch.stack([torch.nn.functional.pad(one, (0, steps - one.shape[1])) for one in series])


@every_encoder
@pytest.mark.parametrize("steps", [40, 41, 64])
def test_a_padded_series_has_the_embedding_of_the_series(config, steps):
    encoder = build_encoder(config).double().eval()
    together = encoder(padded(SERIES, steps).double())
    alone = torch.cat([encoder(one[None].double()) for one in SERIES])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@every_encoder
def test_padding_changes_no_gradient(config):
    encoder = build_encoder(config).double()
    series = [one.double() for one in SERIES]
    (together,) = torch.autograd.grad(encoder(padded(series, 50)).square().sum(), [next(encoder.parameters())])
    alone = torch.cat([encoder(one[None]) for one in series])
    (expected,) = torch.autograd.grad(alone.square().sum(), [next(encoder.parameters())])
    torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-12)


def test_a_series_ends_at_its_last_step_that_is_not_zero():
    x = torch.zeros(4, 2, 5)
    x[1, 0, 3] = -1.0
    x[2, 1, 0] = 1.0
    x[3, :, 4] = 1.0
    assert true_lengths(x).tolist() == [1, 4, 1, 5]


@every_encoder
def test_a_series_of_zeros_has_a_finite_embedding(config):
    assert build_encoder(config)(torch.zeros(2, 2, 6)).isfinite().all()


def test_contexts_do_not_see_the_future():
    encoder = build_encoder({"name": "series-context", "channels": 1, "dim": 4, "strides": (2, 1)}).double().eval()
    x = torch.randn(1, 1, 30, dtype=torch.float64, generator=NOISE)
    changed = x.clone()
    changed[:, :, 17:] += 1.0
    for ours, theirs in zip(encoder.unroll(x)[:2], encoder.unroll(changed)[:2], strict=True):
        assert torch.equal(ours[:, :9], theirs[:, :9])  # the steps 0, 2, ..., 16
        assert not torch.equal(ours[:, 9:], theirs[:, 9:])


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 2)])
def test_unroll_gives_latents_and_contexts_of_every_time(strides):
    encoder = build_encoder(
        {"name": "series-context", "channels": 2, "dim": 4, "latent_dim": 3, "strides": strides, "kernels": (5, 3)}
    )
    latents, contexts, lengths = encoder.unroll(padded(SERIES, 40))
    times = [math.ceil(math.ceil(one.shape[1] / strides[0]) / strides[1]) for one in SERIES]
    assert lengths.tolist() == times
    assert latents.shape == (6, times[-1], 3)
    assert contexts.shape == (6, times[-1], 4)
    assert all((latents[row, time:] == 0).all() for row, time in enumerate(times))
