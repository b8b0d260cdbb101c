"""A training of a second: clusters of numbers, a small network, checkpoints every few steps."""

from pathlib import Path

import numpy as np

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.recipes import build, load_recipe
from tuplet.training import CLOCKS, Event, Job
from tuplet.training.events import read_events

RECIPE = """
name = "tiny"
[data]
source = "rows.npy"
[data.split]
test = 0.4
validation = 0.3
[model]
encoder = { name = "mlp", hidden = [16], dropout = 0.1 }
dim = 8
[loss]
name = "supcon"
queue = 32
[batch]
name = "per-class"
classes_per_batch = 4
per_class = 3
[train]
steps = 40
validate_every = 5
log_every = 2
ema = 0.9
augment = { name = "noise", noise = 0.1 }
[evaluate]
bootstrap = 20
"""


def write(folder: Path) -> Path:
    """The data and its recipe; returns the path of the recipe."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 9)
    centres = random.normal(size=(20, 6))
    np.save(folder / "rows.npy", (centres[labels] + random.normal(size=(180, 6))).astype(np.float32))
    np.save(folder / "rows.labels.npy", labels)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder / "tiny.toml"


def job(recipe: Path, *overrides: str, processes: Processes = SINGLE_PROCESS) -> Job:
    """The training that a recipe describes."""
    return build(load_recipe(recipe, overrides), cache=recipe.parent / "cache", processes=processes)


def in_double(job: Job) -> Job:
    """The same, computed so that gradients can be compared to the last digits; trained in place."""
    encoder = job.embedder.encoder.double()
    encoder.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    if (unroll := getattr(encoder, "unroll", None)) is not None:
        encoder.unroll = lambda inputs: unroll(inputs.double())
    job.loss.double()
    return job


def event_log(run: Path) -> list[Event]:
    """What happened, without the readings of clocks."""
    return [
        {key: value for key, value in event.items() if key not in CLOCKS} for event in read_events(run / "events.jsonl")
    ]


def content(run: Path) -> dict[str, bytes]:
    """All files of a run by their path, but for the event log and the optimiser's, which are compared otherwise."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "events.jsonl")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}
