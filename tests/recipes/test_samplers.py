"""Trainings whose batches are chosen by what was learned, or by label: what reaches the loss, and what resumes."""

import pytest
import torch

import tiny
from shapes import unchecked
from tuplet.app.cli.commands import assemble
from tuplet.data import take_batch
from tuplet.errors import CheckpointError, RecipeError
from tuplet.recipes.task import class_pairs
from tuplet.training import checkpoint, run
from tuplet.training.events import read_events

HARD = (
    "loss={name='npair', norm_penalty=0.01}",
    "batch={name='hard-classes', classes_per_batch=3, candidates=6}",
    "train.log_every=1",
    "train.steps=12",
    "train.validate_every=6",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def test_one_pair_of_each_class_reaches_the_n_pair_loss_as_such(recipe):
    job = tiny.job(recipe, *HARD, "loss.norm_penalty=0.0")
    batch = take_batch(job.train, job.sampler.next_batch())
    with unchecked():  # a plain function stands for preprocessing and encoder
        arguments = job.task.arguments(lambda inputs: job.embedder.encoder(inputs).double(), batch)
    anchors, positives = arguments["embeddings"], arguments["references"]
    assert torch.equal(batch.labels[::2], batch.labels[1::2])
    assert len(set(batch.labels.tolist())) == len(anchors) == 3
    expected = torch.nn.functional.cross_entropy(anchors @ positives.T, torch.arange(3))
    torch.testing.assert_close(job.loss(**arguments), expected)


@pytest.mark.parametrize(
    "change", ["loss.queue=16", "batch.per_class=3", "loss=supcon", "batch={name='per-class', classes_per_batch=3}"]
)
def test_other_losses_and_batches_get_class_ids(recipe, change):
    change = change.replace("=3}", "=3, per_class=2}")
    job = tiny.job(recipe, *HARD, change)
    assert job.task.arguments is not class_pairs
    batch = take_batch(job.train, job.sampler.next_batch())
    with unchecked():
        arguments = job.task.arguments(lambda inputs: inputs, batch)
    assert list(arguments) == ["embeddings", "labels"]


def test_a_resumed_run_chooses_the_same_hard_classes(recipe, tmp_path):
    job = tiny.job(recipe, *HARD)
    list(run(job, tmp_path / "whole"))
    whole, memory = tiny.event_log(tmp_path / "whole"), job.sampler.memory()
    assert memory["seen"].all()
    for event in run(tiny.job(recipe, *HARD), tmp_path / "part"):
        if (event["kind"], event.get("step")) == ("checkpoint", 6):
            break
    saved = checkpoint.load(tmp_path / "part" / "checkpoints" / "step-000006").tensors["sampler"]
    assert set(saved) == set(memory)
    again = tiny.job(recipe, *HARD)
    list(run(again, tmp_path / "part", resume=True))
    assert tiny.event_log(tmp_path / "part") == whole
    assert tiny.content(tmp_path / "part") == tiny.content(tmp_path / "whole")
    assert all(torch.equal(kept, memory[name]) for name, kept in again.sampler.memory().items())


def test_what_was_observed_decides_the_batches(recipe):
    """The same seed over a loop that looks away: the first batches agree, later ones do not."""
    first, second = (tiny.job(recipe, *HARD).sampler for _ in range(2))
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    sampled = []
    for _ in range(12):
        seen, unseen = first.next_batch(), second.next_batch()
        first.observe(seen, rows[seen])
        sampled.append(torch.equal(seen, unseen))
    assert sampled[0]
    assert not all(sampled)


@pytest.mark.parametrize("sampler", ["hard-classes", "neighbours"])
def test_the_command_line_trains_with_it(tmp_path, monkeypatch, sampler):
    tiny.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    rows = [f"{k % 9},{(k % 9) ** 2},{k % 9 + 0.1 * (k % 5)}\n" for k in range(90)]
    (tmp_path / "graded.csv").write_text("x0,x1,target\n" + "".join(rows))
    options = {
        "hard-classes": HARD[:2],
        "neighbours": (
            "data={source='graded.csv', split={by='row', test=0.2}}",
            "loss={name='log_ratio', anchors='first'}",
            "batch={name='neighbours', batch_size=12}",
        ),
    }
    changes = [word for change in (*options[sampler], "train.log_every=1") for word in ("--set", change)]
    words = ["tiny.toml", "--steps", "4", "--name", sampler, *changes]
    assemble(["train"]).commands["train"](words, standalone_mode=False)
    events = read_events(tmp_path / "runs" / sampler / "events.jsonl")
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    assert len(losses) == 4
    assert all(loss > 0 for loss in losses)
    memory = tmp_path / "runs" / sampler / "checkpoints" / "step-000004" / "sampler.safetensors"
    assert memory.exists() == (sampler == "hard-classes")


def test_a_checkpoint_without_the_memory_is_refused(recipe, tmp_path):
    plain = tiny.job(recipe, *HARD, "batch={name='per-class', classes_per_batch=3, per_class=2}")
    for event in run(plain, tmp_path / "run"):
        if (event["kind"], event.get("step")) == ("checkpoint", 6):
            break
    with pytest.raises(RecipeError) as refused:
        list(run(tiny.job(recipe, *HARD), tmp_path / "run", resume=True))
    assert refused.value.reference == "run-changed"
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / "step-000006")
    with pytest.raises(CheckpointError) as caught:
        tiny.job(recipe, *HARD).sampler.load_memory(saved.tensors.get("sampler", {}))
    assert caught.value.reference == "sampler-state"
