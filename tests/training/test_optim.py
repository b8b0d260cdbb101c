"""The learning rate is a function of the step; what is decayed is decided by shape."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tuplet.training.optim import Optimizers, learning_rate
from tuplet.training.settings import TrainSettings

schedules = st.sampled_from(["one-cycle", "cosine", "linear", "steps", "constant"])


@given(schedule=schedules, steps=st.integers(1, 300), warmup=st.floats(0, 0.99), peak=st.floats(1e-6, 10))
def test_the_learning_rate_rises_to_its_peak_then_never_rises_again(schedule, steps, warmup, peak):
    settings = TrainSettings(steps=steps, schedule=schedule, warmup=warmup, learning_rate=peak)
    rates = [learning_rate(settings, step) for step in range(steps)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= warmup * steps + 1


def test_one_cycle_starts_low_and_ends_near_zero():
    settings = TrainSettings(steps=1000, warmup=0.3, learning_rate=1.0)
    assert learning_rate(settings, 0) < 0.05
    assert learning_rate(settings, 300) == pytest.approx(1.0)
    assert learning_rate(settings, 999) < 1e-4


def test_a_constant_schedule_stays_at_its_peak_after_warm_up():
    settings = TrainSettings(steps=100, warmup=0.1, schedule="constant", learning_rate=2.0)
    assert learning_rate(settings, 0) < 0.5
    assert {learning_rate(settings, step) for step in range(10, 100)} == {2.0}


def test_a_schedule_of_steps_falls_to_a_tenth_at_each_drop():
    settings = TrainSettings(steps=10, warmup=0.0, schedule="steps", drops=(0.5, 0.8), learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(10)]
    assert rates == pytest.approx([1.0] * 5 + [0.1] * 3 + [0.01] * 2)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adagrad"])
def test_every_optimizer_decays_matrices_and_nothing_else(name):
    encoder = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2, bias=False))
    settings = TrainSettings(optimizer=name, weight_decay=0.1)
    optimizer = Optimizers(settings, [encoder, nn.Module()]).dense
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(encoder[0].weight), id(encoder[2].weight)}
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in learned} == {id(p) for p in encoder.parameters()}


def test_frozen_weights_are_left_to_themselves():
    encoder = nn.Linear(4, 2)
    encoder.weight.requires_grad = False
    optimizer = Optimizers(TrainSettings(), [encoder])
    before = encoder.weight.clone()
    encoder(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(encoder.weight, before)
