"""Class weights of which a sample is drawn: what is not drawn stays as it is, to the bit, and so does its optimiser."""

import pytest
import torch
from torch import nn

import tiny
from tuplet.engine import Processes
from tuplet.losses import ArcFaceLoss
from tuplet.training import TrainSettings, run
from tuplet.training.optim import Optimizers, count_parameters

CLASSES, DIM = 40, 4
NAMES = ["adamw", "adam", "sgd", "adagrad"]


def setup(name, **options):
    """An encoder, a sampled head, their optimisers, and a gradient of both."""
    torch.manual_seed(0)
    encoder, loss = nn.Linear(6, DIM), ArcFaceLoss(CLASSES, DIM, scale=8.0, sample_rate=0.2)
    optimizers = Optimizers(TrainSettings(optimizer=name, weight_decay=0.1, **options), [encoder, loss])
    return encoder, loss, optimizers


def target(encoder, loss, step):
    generator = torch.Generator().manual_seed(step)
    loss(encoder(torch.randn(5, 6, generator=generator)), torch.randint(CLASSES, (5,), generator=generator)).backward()


def rows(loss, optimizers):
    """The weights and all that the optimiser knows of each, by class."""
    state = optimizers.sampled.state.get(loss.weight, {})
    return [
        loss.weight.detach().clone(),
        *(v.clone() for v in state.values() if isinstance(v, torch.Tensor) and v.ndim),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_only_the_rows_sampled_move_and_their_state_with_them(name):
    encoder, loss, optimizers = setup(name)
    target(encoder, loss, step=0)
    optimizers.step()  # from here on there is a state
    assert len(rows(loss, optimizers)) == {"adamw": 3, "adam": 3, "sgd": 1, "adagrad": 2}[name]
    for step in range(1, 6):
        before = rows(loss, optimizers)
        optimizers.zero_grad()
        target(encoder, loss, step)
        sampled = loss.weight.grad.coalesce().indices()[0]
        assert len(sampled) == 8
        optimizers.step()
        for now, then in zip(rows(loss, optimizers), before, strict=True):
            assert (now != then).any(1).nonzero()[:, 0].tolist() == sampled.tolist()


def test_a_step_of_plain_descent_is_the_gradient_and_nothing_else():
    encoder, loss, optimizers = setup("sgd", momentum=0.9)
    for step in range(3):
        before = loss.weight.detach().clone()
        optimizers.zero_grad()
        target(encoder, loss, step)
        optimizers.set_rate(0.5 / (step + 1))
        optimizers.step()
        torch.testing.assert_close(loss.weight, before - 0.5 / (step + 1) * loss.weight.grad.to_dense())


def test_clipping_neither_counts_nor_touches_sampled_weights():
    encoder, loss, optimizers = setup("adamw")
    target(encoder, loss, step=0)
    before = loss.weight.grad.to_dense().clone()
    norm = torch.cat([p.grad.flatten() for p in encoder.parameters()]).norm()
    torch.testing.assert_close(optimizers.clip(norm.item() / 3), norm)
    assert torch.equal(loss.weight.grad.to_dense(), before)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in encoder.parameters()]).norm(), norm / 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_training_with_a_sampled_head_resumes_bit_for_bit(name, tmp_path):
    recipe = tiny.write(tmp_path)
    changes = ("loss={name='arcface', sample_rate=0.7, scale=16.0}", f"train.optimizer='{name}'", "train.steps=20")
    list(run(tiny.job(recipe, *changes), tmp_path / "runs" / "whole"))
    for event in run(tiny.job(recipe, *changes), tmp_path / "runs" / "parts"):
        if event["kind"] == "checkpoint" and event["step"] == 10:
            break
    list(run(tiny.job(recipe, *changes), tmp_path / "runs" / "parts", resume=True))
    assert tiny.content(tmp_path / "runs" / "parts") == tiny.content(tmp_path / "runs" / "whole")
    assert tiny.event_log(tmp_path / "runs" / "parts") == tiny.event_log(tmp_path / "runs" / "whole")


def test_parameters_of_other_processes_are_counted():
    encoder = nn.Linear(6, DIM)
    shard = ArcFaceLoss(CLASSES, DIM, sharded=True, scale=8.0, processes=Processes(1, 3))
    assert shard.weight.numel() < CLASSES * DIM
    assert count_parameters([encoder, shard]) == count_parameters([encoder, ArcFaceLoss(CLASSES, DIM, scale=8.0)])
