"""Trainings of a few seconds that any number of processes share."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tiny
from tuplet.app.cli.running import after_the_first
from tuplet.data import take_batch
from tuplet.engine import Processes
from tuplet.seeding import Draws, derive
from tuplet.training import run
from tuplet.training.distributed import shard_slice
from tuplet.training.optim import Optimizers
from tuplet.training.step import take_step
from tuplet.training.synchronised import synchronise

STEPS = 24
EXACT = (  # what cannot be the same over processes is left out: dropout is drawn by each for its own rows
    "model.encoder={name='mlp', hidden=[16], norm='layer', dropout=0.0}",
    "batch.classes_per_batch=5",  # 15 rows: no number of processes but 3 and 5 gets equal shares
    f"train.steps={STEPS}",
    "train.log_every=1",
    "train.validate_every=8",
    "train.clip=1.0",
)
ON_FOUR = ("supcon", "arcface", "instance")
"""Trained by four processes too."""
RESUMED = ("supcon", "arcface", "sampled", "instance")
"""Queue, sharded class weights, a sample of them, sharded bank."""
UNIFORM = "batch={name='uniform', batch_size=15}"
LOSSES = {
    "supcon": ("loss={name='supcon', queue=32}",),
    "triplet": ("loss={name='triplet', select='semihard'}",),
    "two-views": ("loss={name='info_nce', temperature='learned', symmetric=true}", UNIFORM),
    "npair": ("loss={name='npair', norm_penalty=0.01}", "batch={name='hard-classes', classes_per_batch=5}"),
    "arcface": ("loss={name='arcface', scale=16.0, sharded=true}",),
    "sampled": ("loss={name='cosface', scale=16.0, sharded=true, sample_rate=0.6}",),
    "instance": ("loss={name='instance_discrimination', noise_samples=16, sharded=true}", UNIFORM),
    "log-ratio": (
        "loss={name='log_ratio'}",
        "batch={name='neighbours', batch_size=15}",
        "data.source='{folder}/graded.csv'",
        "data.split={by='row', test=0.2}",
    ),
    "cpc": (
        "loss={name='cpc', steps=2}",
        UNIFORM,
        "data={source='{folder}/series.npy', kind='series', split={by='row', test=0.2}}",
        "model.encoder={name='series-context', latent_dim=4, width=[4], kernels=[3, 3], strides=[2, 1]}",
    ),
}


def write(folder: Path) -> Path:
    """The data and the recipe that all of them start from."""
    recipe = tiny.write(folder)
    rows = np.load(folder / "rows.npy")
    lines = [",".join([*map(str, row), str(row[:2].sum())]) for row in rows]
    series = np.cumsum(np.random.default_rng(1).normal(size=(40, 1, 12)), 2)
    series[::3, :, 8:] = 0  # shorter ones: fewer latents count
    np.save(folder / "series.npy", series.astype(np.float32))
    (folder / "graded.csv").write_text("\n".join(["x0,x1,x2,x3,x4,x5,target", *lines]))
    return recipe


def steps(recipe: str, folder: str, loss: str, *, resume: bool = False, until: int = 0) -> list[list[float]]:
    """Number, loss and gradient norm of each step; the training is left with the checkpoint of `until`."""
    where, processes = Path(recipe).parent, Processes.default()
    options = [option.replace("{folder}", str(where)) for option in LOSSES[loss]]
    job = tiny.job(Path(recipe), *EXACT, *options, processes=processes)
    seen = []
    for event in run(job, Path(folder) / loss, resume=resume, processes=processes):
        if event["kind"] == "step":
            seen.append([event["step"], event["loss"], event["gradient_norm"]])
        if event["kind"] == "checkpoint" and event["step"] == until:
            break
    return seen


def losses(
    recipe: str, folder: str, names: Sequence[str] = tuple(LOSSES), **options: Any
) -> dict[str, list[list[float]]]:
    """The same for several losses."""
    return {name: steps(recipe, folder, name, **options) for name in names}


def gradient(recipe: str, loss: str, chunk: int) -> list[float]:
    """Of one step over 15 examples, or 14 in pairs: the encoder's, after the processes agreed on it."""
    processes = Processes.default()
    where = str(Path(recipe).parent)
    options = [*EXACT, *(option.replace("{folder}", where) for option in LOSSES[loss]), f"train.chunk={chunk}"]
    job = tiny.in_double(tiny.job(Path(recipe), *options, processes=processes))
    rows = torch.arange(15 // job.sampler.together * job.sampler.together)
    mine = shard_slice(len(rows), processes, job.sampler.together)
    still, draws = Optimizers(job.settings, [job.embedder]), Draws(derive(0), mine.start, len(rows))
    take_step(job, take_batch(job.train, rows[mine]), draws, still, 0, processes, watched=False)
    return torch.cat([weight.grad.flatten() for weight in job.embedder.parameters()]).tolist()


def normalised(recipe: str) -> dict[str, list[float]]:
    """Of one step over 15 examples with batch normalisation: the encoder's gradient, and the running statistics."""
    processes = Processes.default()
    batch_norm = "model.encoder={name='mlp', hidden=[16, 16], norm='batch', dropout=0.0}"
    job = tiny.in_double(tiny.job(Path(recipe), *EXACT, batch_norm, processes=processes))
    synchronise(job.embedder, processes)
    rows = torch.arange(15)
    mine = shard_slice(len(rows), processes)
    still, draws = Optimizers(job.settings, [job.embedder]), Draws(derive(0), mine.start, len(rows))
    take_step(job, take_batch(job.train, rows[mine]), draws, still, 0, processes, watched=False)
    gradient = torch.cat([weight.grad.flatten() for weight in job.embedder.parameters()])
    moved = [value.double().flatten() for name, value in job.embedder.named_buffers() if "running" in name]
    return {"gradient": gradient.tolist(), "statistics": torch.cat(moved).tolist()}


def taken(folder: str) -> bool:
    """Whether a slow process finds the folder that the first one makes after both have looked for it."""
    processes = Processes.default()
    with after_the_first(processes):
        time.sleep(0.5 * processes.rank)
        found = Path(folder).exists()
    if processes.rank == 0:
        Path(folder).mkdir()
    return found


def notes() -> bool:
    """Whether this process would tell what a sampler logs about."""
    with after_the_first(Processes.default()):
        return logging.getLogger("tuplet.sampling").isEnabledFor(logging.WARNING)


def every_gradient(recipe: str, chunk: int) -> dict[str, list[float]]:
    """The same for each loss."""
    return {loss: gradient(recipe, loss, chunk) for loss in LOSSES}
