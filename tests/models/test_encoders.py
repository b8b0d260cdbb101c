"""Encoders turn a batch into one row per input, repeatably."""

import sys

import pytest
import torch
from torch import nn

from shapes import unchecked
from tuplet.errors import RecipeError, ShapeError
from tuplet.models import build_encoder, registry

NOISE = torch.Generator().manual_seed(7)
IMAGES = torch.rand(6, 1, 32, 32, generator=NOISE)
ROWS = torch.randn(6, 5, generator=NOISE)
SERIES = torch.randn(6, 2, 40, generator=NOISE)
TOKENS = torch.randint(1, 64, (6, 9), generator=NOISE)

BUILT = {
    "linear": ({"in_dim": 5, "dim": 3}, ROWS),
    "mlp": ({"in_dim": 5, "dim": 3, "hidden": (8, 7)}, ROWS),
    "mlp-layer": ({"name": "mlp", "in_dim": 5, "dim": 3, "norm": "layer"}, ROWS),
    "mlp-plain": ({"name": "mlp", "in_dim": 5, "dim": 3, "norm": "none", "dropout": 0.5, "hidden": ()}, ROWS),
    "conv-small": ({"channels": 1, "dim": 3}, IMAGES),
    "conv-group": ({"name": "conv-small", "channels": 1, "dim": 3, "norm": "group", "pool": "mean"}, IMAGES),
    "series-conv": ({"channels": 2, "dim": 3}, SERIES),
    "series-context": ({"channels": 2, "dim": 3}, SERIES),
    "bag-of-words": ({"buckets": 64, "dim": 3}, TOKENS),
    "bag-with-head": ({"name": "bag-of-words", "buckets": 64, "dim": 3, "hidden": (5, 4)}, TOKENS),
    "callable": ({"target": "torch.nn:Linear", "dim": 3, "options": {"in_features": 5, "out_features": 3}}, ROWS),
}
every_encoder = pytest.mark.parametrize("name", BUILT)


def build(name, **more):
    options, inputs = BUILT[name]
    return build_encoder({"name": name, **options}, trust=True, **more), inputs


def test_every_registered_encoder_is_tried_here():
    tried = {options.get("name", name) for name, (options, _) in BUILT.items()}
    assert set(registry) == tried | {"sentence-transformers", "pretrained"}  # which have files of their own


@every_encoder
def test_one_row_per_input_and_a_gradient_for_every_weight(name):
    encoder, inputs = build(name)
    embeddings = encoder(inputs)
    embeddings.square().sum().backward()
    assert embeddings.shape == (6, encoder.dim) == (6, 3)
    assert [key for key, weight in encoder.named_parameters() if weight.grad is None] == []


@every_encoder
def test_an_input_has_one_embedding_whatever_it_is_batched_with(name):
    encoder, inputs = build(name)
    encoder.eval()
    alone = torch.cat([encoder(one[None]) for one in inputs])
    torch.testing.assert_close(alone, encoder(inputs), rtol=1e-5, atol=1e-6)


@every_encoder
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(name, seed=3)[0].state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    second, other = build(name, seed=3)[0].state_dict(), build(name, seed=4)[0].state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize("size", [1, 7, 28, 33])
@pytest.mark.parametrize("pool", ["flatten", "mean"])
def test_conv_small_takes_any_size(size, pool):
    encoder = build_encoder({"name": "conv-small", "channels": 3, "size": size, "dim": 4, "pool": pool})
    assert encoder(torch.rand(2, 3, size, size)).shape == (2, 4)


def test_conv_small_is_the_network_of_the_demo():
    encoder = build_encoder({"name": "conv-small", "channels": 1})
    shapes = [tuple(layer.weight.shape) for layer in encoder.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert shapes == [(32, 1, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (128, 4 * 4 * 128)]


def test_conv_small_reads_both_memory_orders():
    encoder, images = build("conv-small")
    encoder.eval()
    torch.testing.assert_close(encoder(images.contiguous(memory_format=torch.channels_last)), encoder(images))


def test_group_norm_ties_no_images_to_each_other_in_training():
    encoder, images = build("conv-group")
    torch.testing.assert_close(encoder(images)[:2], encoder(images[:2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("linear", torch.rand(2, 4)),
        ("mlp", torch.rand(5)),
        ("conv-small", torch.rand(2, 3, 32, 32)),
        ("conv-small", torch.rand(2, 1, 28, 28)),
        ("series-conv", torch.rand(2, 40)),
        ("series-context", torch.rand(2, 1, 40)),
    ],
)
def test_inputs_of_another_shape_are_refused_by_name(name, wrong):
    encoder, _ = build(name)
    with unchecked(), pytest.raises(ShapeError, match=f"'{name}' reads inputs of shape"):
        encoder(wrong)


@pytest.mark.parametrize(
    ("config", "found", "hint"),
    [
        ({"name": "conv-smal"}, "no encoder called 'conv-smal'", "'conv-small'"),
        ({"name": "mlp", "in_dim": 5, "hiden": (3,)}, "no option 'hiden'", "'hidden'"),
        ({"name": "mlp"}, "in_dim", "in_dim, dim, hidden"),
        ({"name": "mlp", "in_dim": -1}, "refuses its options", "in_dim"),
        ({"name": "series-conv", "kernels": (3,)}, "one entry per layer", "strides"),
        ({"name": "callable", "target": "no.such:Thing"}, "cannot be imported", "package.module:Class"),
        ({"name": "callable", "target": "torch.nn:Nothing"}, "cannot be imported", "package.module:Class"),
        ({"name": "callable", "target": "torch.nn"}, "cannot be imported", "package.module:Class"),
        ({"name": "callable", "target": "torch.nn.functional:relu"}, "not a class derived from", "Wrap it"),
        ({"name": "callable", "target": "subprocess:Popen", "options": {"args": "false"}}, "not a class", "Wrap it"),
        ({"name": "callable", "target": "torch.nn:Linear", "options": {"size": 3}}, "size", "in_features"),
    ],
)
def test_configurations_that_make_no_encoder_say_what_to_change(config, found, hint):
    with unchecked(), pytest.raises(RecipeError, match=found) as caught:
        build_encoder(config, trust=True)
    assert hint in caught.value.hint


def test_an_encoder_of_another_package_may_take_any_option(monkeypatch):
    monkeypatch.setitem(registry._entries, "guest", lambda dim, **options: nn.Linear(options["reads"], dim))
    assert build_encoder({"name": "guest", "dim": 2, "reads": 3})(torch.rand(4, 3)).shape == (4, 2)


class Odd(nn.Module):
    """Returns what it is set to."""

    def __init__(self, shape=None):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return torch.zeros(len(x), *self.shape) if self.shape else "no tensor"


@pytest.mark.parametrize("shape", [None, (), (4,), (3, 1)])
def test_a_callable_must_return_one_row_of_the_promised_length(shape, monkeypatch):
    monkeypatch.setitem(sys.modules, "odd_encoders", sys.modules[__name__])
    config = {"name": "callable", "target": "odd_encoders:Odd", "dim": 3, "options": {"shape": shape}}
    encoder = build_encoder(config, trust=True)
    with unchecked(), pytest.raises(ShapeError, match=r"expected a tensor of shape \(2, 3\)") as caught:
        encoder(torch.rand(2, 5))
    assert "`dim`" in caught.value.hint
