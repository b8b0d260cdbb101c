"""What of an encoder learns, and how fast: its layers, low-rank adapters, learning rates."""

import pytest
import torch
from torch import nn

from tuplet.data import VectorPreprocessing
from tuplet.errors import RecipeError
from tuplet.models import Embedder, build_encoder
from tuplet.models.layers import add_lora, depths, freeze, hold_frozen, layers_of
from tuplet.training.optim import Optimizers
from tuplet.training.settings import TrainSettings


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(0.5)

    def forward(self, x):
        return x + self.drop(self.norm(self.v_proj(self.q_proj(x).relu())))


class Net(nn.Module):
    """Something before the layers, three of these, something behind them, and a head."""

    def __init__(self, width=6, depth=3):
        super().__init__()
        self.before = nn.Linear(4, width)
        self.layers = nn.ModuleList([Block(width) for _ in range(depth)])
        self.behind = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)
        self.dim = 5

    def forward(self, x):
        x = self.before(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.behind(x))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def learning(net):
    return {name for name, weight in net.named_parameters() if weight.requires_grad}


def test_depth_counts_from_the_input(net):
    assert layers_of(net) == [*net.layers]
    depth = depths(net)
    assert depth["before.weight"] == 0
    assert [depth[f"layers.{place}.v_proj.bias"] for place in range(3)] == [1, 2, 3]
    assert depth["behind.weight"] == depth["head.bias"] == 4
    assert layers_of(build_encoder({"name": "linear", "in_dim": 3})) == []


@pytest.mark.parametrize(("layers", "left"), [(0, 4), (1, 3), (3, 1), ("all", 0)])
def test_frozen_layers_and_what_comes_before_them_do_not_learn(net, layers, left):
    freeze(net, layers)
    found = learning(net)
    assert {name.split(".")[1] for name in found if name.startswith("layers")} == {"0", "1", "2"} - {
        str(place) for place in range(4 - left if left else 3) if place < (3 if layers == "all" else layers)
    }
    assert ("before.weight" in found) == (layers == 0)
    assert ("behind.weight" in found) == (layers != "all")
    assert "head.weight" in found


def test_what_is_frozen_is_evaluated_while_the_rest_trains(net):
    freeze(net, 2)
    hold_frozen(net.train())
    assert [layer.drop.training for layer in net.layers] == [False, False, True]
    before = net.layers[0].norm.running_mean.clone()
    net(torch.randn(8, 4))
    torch.testing.assert_close(net.layers[0].norm.running_mean, before)
    assert net.head.training


@pytest.mark.parametrize(
    ("encoder", "layers", "reference"),
    [
        (Net(), 4, "too-few-layers"),
        (build_encoder({"name": "linear", "in_dim": 3}), 1, "too-few-layers"),
        (build_encoder({"name": "linear", "in_dim": 3}), "all", "nothing-learns"),
    ],
)
def test_what_cannot_be_frozen_is_refused(encoder, layers, reference):
    with pytest.raises(RecipeError) as refused:
        freeze(encoder, layers)
    assert (refused.value.reference, refused.value.exit_code) == (reference, 4)


def test_each_layer_moves_by_its_share_of_the_learning_rate(net):
    settings = TrainSettings(optimizer="sgd", learning_rate=0.1, momentum=0.0, layer_decay=0.5, weight_decay=0.0)
    config = {"name": "linear", "in_dim": 4, "dim": 5}
    embedder = Embedder(net, VectorPreprocessing(), encoder_config=config)
    optimizers = Optimizers(settings, [embedder])
    optimizers.set_rate(0.1)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight)
    optimizers.step()
    for name, weight in net.named_parameters():
        expected = 0.1 * 0.5 ** (4 - depths(net)[name])
        torch.testing.assert_close(before[name] - weight, torch.full_like(weight, expected))
    again = Optimizers(settings, [embedder])
    again.load_state_dict(optimizers.state_dict())
    again.set_rate(0.2)
    assert {group["lr"] for group in again.dense.param_groups} == {0.2 * 0.5**step for step in range(5)}


def test_rates_of_an_encoder_without_layers_are_refused():
    config = {"name": "linear", "in_dim": 4, "dim": 5}
    embedder = Embedder(build_encoder(config), VectorPreprocessing(), encoder_config=config)
    with pytest.raises(RecipeError) as refused:
        Optimizers(TrainSettings(layer_decay=0.5), [embedder])
    assert refused.value.reference == "too-few-layers"


def test_an_adapter_adds_a_product_of_low_rank(net):
    pytest.importorskip("peft", reason="peft is not installed")
    x = torch.randn(7, 4)
    net.eval()
    before = net(x)
    plain = {name: part for name, part in net.named_modules() if isinstance(part, nn.Linear)}
    add_lora(net, rank=2, alpha=6.0, targets=("q_proj",))
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)  # B is zero
    assert {name.split(".")[-3] for name in learning(net)} == {"lora_A", "lora_B"}
    for layer in net.layers:
        torch.nn.init.normal_(layer.q_proj.lora_B["default"].weight)
    merged = Net()
    merged.load_state_dict(
        {name.replace(".base_layer", ""): one for name, one in net.state_dict().items() if "lora" not in name}
    )
    for layer, other in zip(net.layers, merged.layers, strict=True):
        a, b = (layer.q_proj.get_submodule(f"lora_{half}")["default"].weight for half in "AB")
        assert (a.shape, b.shape) == ((2, 6), (6, 2))
        other.q_proj.weight.data += 6.0 / 2 * b @ a
    torch.testing.assert_close(net(x), merged.eval()(x), rtol=1e-5, atol=1e-6)
    assert len(plain) == 8


def test_adapters_are_those_of_the_layers_unless_named(net):
    pytest.importorskip("peft", reason="peft is not installed")
    add_lora(net)
    adapted = {name.split(".lora_")[0] for name in learning(net)}
    assert adapted == {f"layers.{place}.{name}" for place in range(3) for name in ("q_proj", "v_proj")}
    with pytest.raises(RecipeError) as refused:
        add_lora(Net(), targets=("query",))
    assert refused.value.reference == "no-lora-targets"
