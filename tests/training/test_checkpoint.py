"""A checkpoint is there in full or not at all, and gives back exactly what it was given."""

import io
import json
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import CheckpointError
from tuplet.training import checkpoint
from tuplet.training.checkpoint import Checkpoint, Progress


def example(step=5):
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    tied = torch.randn(3)
    tensors = {
        "model": {"weight": weight.detach(), "a": tied, "b": tied, "count": torch.tensor(7)},
        "objective": {"low": torch.randn(2).bfloat16(), "none": torch.empty(0, 3)},
    }
    progress = Progress(
        step=step, events=123, sampler={"epoch": 1, "batch": 2}, best_step=3, best_score=0.1 + 0.2, waited=1
    )
    return Checkpoint(progress, tensors, optimizer.state_dict())


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def test_what_is_saved_comes_back(tmp_path):
    saved = example()
    folder = checkpoint.save(tmp_path, saved)
    loaded = checkpoint.load(folder)
    assert loaded.progress == saved.progress
    assert same(saved.tensors, loaded.tensors)
    assert same(saved.optimizer, loaded.optimizer)
    assert (tmp_path / "LATEST").read_text() == "step-000005\n"


@given(data=st.data())
def test_damage_anywhere_is_noticed(tmp_path_factory, data):
    folder = checkpoint.save(tmp_path_factory.mktemp("run"), example())
    victim = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = bytearray((folder / victim).read_bytes())
    at = data.draw(st.integers(0, len(content) - 2))  # a last line break is no loss
    how = data.draw(st.sampled_from(["cut", "flip", "gone"]))
    if how == "cut":
        content = content[:at]
    elif victim == "progress.json" and how == "flip":
        content[at : at + 1] = b"\xff"
    elif how == "flip":
        content[at] ^= 1
    (folder / victim).unlink()
    if how != "gone":
        (folder / victim).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    assert caught.value.hint


def test_the_last_whole_checkpoint_is_found_and_torn_ones_are_named(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, example(step))
    (tmp_path / "step-000003" / "model.safetensors").write_bytes(b"")
    (tmp_path / "step-000002" / "progress.json").unlink()
    found, notes = checkpoint.load_latest(tmp_path)
    assert found.progress.step == 1
    assert ["step-000003" in notes[0], "step-000002" in notes[1], len(notes)] == [True, True, 2]


def test_steps_of_any_length_are_in_order(tmp_path):
    for step in (999_999, 1_000_000):
        checkpoint.save(tmp_path, example(step))
    assert checkpoint.load_latest(tmp_path)[0].progress.step == 1_000_000


def test_no_checkpoint_is_no_error_but_no_whole_one_is(tmp_path):
    assert checkpoint.load_latest(tmp_path / "nothing") == (None, [])
    (checkpoint.save(tmp_path, example()) / "progress.json").write_text("{")
    with pytest.raises(CheckpointError, match="None of the 1"):
        checkpoint.load_latest(tmp_path)


def test_a_format_of_the_future_is_refused_not_passed_over(tmp_path):
    checkpoint.save(tmp_path, example(1))
    path = checkpoint.save(tmp_path, example(2)) / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99") as caught:
        checkpoint.load_latest(tmp_path)
    assert caught.value.reference == "unknown-format"


class Bomb:
    def __reduce__(self):
        return print, ("code was run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    folder = checkpoint.save(tmp_path, example())
    buffer = io.BytesIO()
    torch.save({"state": Bomb()}, buffer, pickle_module=pickle)
    (folder / "optimizer.pt").write_bytes(buffer.getvalue())
    path = folder / "progress.json"
    progress = json.loads(path.read_text())
    progress["files"]["optimizer.pt"] = checkpoint._digest(buffer.getvalue())
    said = {key: value for key, value in progress.items() if key not in ("format", "check")}
    path.write_text(json.dumps({**progress, "check": checkpoint.check_of(said)}))
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)
    assert capsys.readouterr().out == ""


def test_pruning_keeps_what_it_is_reported_and_clears_what_was_left_half_written(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, example(step))
    (tmp_path / ".step-000009.partial").mkdir()
    checkpoint.prune(tmp_path, [1, 3, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-000001", "step-000003", "step-000004"]


def test_a_checkpoint_takes_the_place_of_a_torn_one_of_the_same_step(tmp_path):
    folder = checkpoint.save(tmp_path, example())
    (folder / "model.safetensors").write_bytes(b"torn")
    checkpoint.save(tmp_path, example())
    assert checkpoint.load(folder).progress.step == 5
