"""A batch encoded in chunks: the gradient of the whole batch, the memory of a chunk."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import tiny
from tuplet.data import take_batch
from tuplet.engine import SINGLE_PROCESS
from tuplet.errors import RecipeError
from tuplet.losses import NTXentLoss, SupConLoss
from tuplet.models import build_encoder
from tuplet.seeding import Draws, derive
from tuplet.training import run
from tuplet.training.chunks import encode_in_chunks
from tuplet.training.optim import Optimizers
from tuplet.training.step import take_step

LAYER = "model.encoder={name='mlp', hidden=[16], norm='layer', dropout=0.0}"


def images(rows):
    return torch.rand(rows, 1, 12, 12, generator=derive(0, "images"), dtype=torch.float64)


def encoder(dropout=0.0):
    network = build_encoder({"name": "conv-small", "channels": 1, "size": 12, "width": (8, 16), "norm": "group"})
    return nn.Sequential(nn.Dropout(dropout), network, nn.Dropout(dropout)).double()


def chunked(network, inputs, rows):
    (embeddings,) = encode_in_chunks(lambda part: (network(part),), inputs, rows)
    return embeddings


def gradients(network, encode, rows=23):
    torch.default_generator.manual_seed(3)  # dropout
    value = SupConLoss(temperature=0.2)(encode(images(rows)), torch.arange(rows) % 5)
    network.zero_grad()
    value.backward()
    return [value.detach(), *(weight.grad.clone() for weight in network.parameters())]


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rows", [1, 5, 8, 22, 23, 99])
def test_the_gradient_is_that_of_the_whole_batch(rows):
    network = encoder()
    expected = gradients(network, network)
    assert max(float(gradient.abs().max()) for gradient in expected[1:]) > 1e-3
    assert_same(gradients(network, lambda x: chunked(network, x, rows)), expected)


@pytest.mark.parametrize("rows", [4, 7])
def test_dropout_draws_alike_both_times(rows):
    network = encoder(dropout=0.3)
    expected = gradients(network, lambda x: torch.cat([network(part) for part in x.split(rows)]))
    assert_same(gradients(network, lambda x: chunked(network, x, rows)), expected)
    left = torch.rand(())
    gradients(network, lambda x: chunked(network, x, rows))
    assert torch.equal(torch.rand(()), left), "the second pass leaves the random state as the first one left it"


def test_an_encoder_may_be_called_for_each_side_of_a_pair():
    network, loss = encoder(), NTXentLoss(temperature=0.5)

    def gradient(rows):
        network.zero_grad()
        first, second = (chunked(network, images(18)[half], rows) for half in (slice(9), slice(9, 18)))
        loss(first, references=second).backward()
        return [weight.grad.clone() for weight in network.parameters()]

    assert_same(gradient(4), gradient(0))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def one_step(job, chunk):
    job = tiny.in_double(replace(job, settings=job.settings.model_copy(update={"chunk": chunk})))
    weights = [weight for module in (job.embedder, job.loss) for weight in module.parameters()]
    batch, optimizers = take_batch(job.train, torch.arange(21)), Optimizers(job.settings, [job.embedder, job.loss])
    taken = take_step(job, batch, Draws(derive(0, "augment")), optimizers, 0, SINGLE_PROCESS, watched=True)
    return [taken.outcome.value.detach(), taken.norm, *(weight.grad.clone() for weight in weights)]


@pytest.mark.parametrize(
    "task",
    [
        (),
        ("loss={name='info_nce', temperature='learned', symmetric=true}", "batch={name='uniform', batch_size=15}"),
        ("loss={name='instance_discrimination', noise_samples=16}", "batch={name='uniform', batch_size=15}"),
        ("loss={name='arcface'}",),
    ],
    ids=["classes", "two views", "instances", "class weights"],
)
def test_a_step_with_augmentation_is_the_same_step(recipe, task):
    expected, found = (one_step(tiny.job(recipe, LAYER, *task), chunk) for chunk in (0, 4))
    assert_same(found, expected)


def test_normalisation_over_the_batch_is_refused_with_the_alternatives(recipe, tmp_path):
    job = tiny.job(recipe, "train.chunk=4")  # an encoder that has it
    with pytest.raises(RecipeError, match=r"layer encoder\.layers\.1 normalises over the batch") as refused:
        next(run(job, tmp_path / "run"))
    assert refused.value.reference == "batch-norm-in-chunks"
    assert 'norm="group"' in refused.value.hint
    assert not (tmp_path / "run").exists()


def test_chunks_that_hold_the_whole_batch_train_the_same_model(recipe, tmp_path):
    runs = {chunk: tmp_path / str(chunk) for chunk in (0, 5)}
    for chunk, folder in runs.items():
        list(run(tiny.job(recipe, LAYER, f"train.chunk={chunk}", "train.steps=10"), folder))
    steps = [[event for event in tiny.event_log(folder) if event["kind"] == "step"] for folder in runs.values()]
    losses = [[event["loss"] for event in part] for part in steps]
    assert len(losses[0]) == 5
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)


PEAK = """
import sys, torch
from tuplet.losses import SupConLoss
from tuplet.models import build_encoder
from tuplet.training.chunks import encode_in_chunks
torch.set_num_threads(1)
network = build_encoder({"name": "conv-small", "channels": 1, "size": 32, "norm": "group"})
inputs, labels = torch.rand(768, 1, 32, 32), torch.arange(768) % 64
def step(rows, count):
    embeddings, = encode_in_chunks(lambda part: (network(part),), inputs[:count], rows)
    SupConLoss()(embeddings, labels[:count]).backward()
def high():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
step(16, 32)
for rows in (32, 0):
    open("/proc/self/clear_refs", "w").write("5")
    before = high(); step(rows, 768); print(high() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_a_chunk():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    chunked, whole = map(float, done.stdout.split())
    assert chunked < whole / 4, f"{chunked:.0f} MB against {whole:.0f} MB"
