"""What a step keeps is counted once, while it is kept, and never longer."""

import numpy as np
import torch

import tiny
from tuplet.training.profile import SavedTensorBytes, profile_steps, size_of


def test_each_piece_of_memory_is_counted_once_and_given_back():
    x = torch.ones(100, requires_grad=True)
    held = SavedTensorBytes([x])
    with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
        y = x.exp()  # keeps its result: 400 bytes
        z = (y * y[:].view(10, 10).view(-1)).exp()  # keeps y again, through a view, and its own result
        loss = (z * x).sum()  # keeps z again, and x, which is there anyway
        assert held.peak == 800
        loss.backward()
    assert x.grad is not None
    del y, z, loss
    assert held._now == 0


def test_a_step_in_chunks_keeps_less(tmp_path):
    recipe = tiny.write(tmp_path)
    wide = ["model.encoder.norm=layer", "model.encoder.hidden=[512]", "batch.classes_per_batch=6", "batch.per_class=9"]
    whole = profile_steps(tiny.job(recipe, *wide)).saved
    parts = profile_steps(tiny.job(recipe, *wide, "train.chunk=6")).saved
    rows, width, number = 54, 512, 4
    assert whole >= rows * width * number, "at least what the hidden layer hands on"
    assert parts < whole / 2


def test_a_profile_takes_real_steps_and_times_each(tmp_path):
    job = tiny.job(tiny.write(tmp_path))
    before = [p.clone() for p in job.embedder.parameters()]
    found = profile_steps(job)
    assert 3 <= len(found.seconds) <= 8
    assert all(np.array(found.seconds) > 0)
    assert found.validation is not None
    assert any(not torch.equal(old, new) for old, new in zip(before, job.embedder.parameters(), strict=True))
    assert size_of(found.checkpoint.tensors["model"]) == size_of(job.embedder.state_dict())
    assert size_of(found.checkpoint.optimizer) > size_of([p for p in job.embedder.parameters() if p.ndim > 1])
