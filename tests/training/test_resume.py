"""Whatever a training keeps is in its checkpoint: another process goes on with it, to the last bit."""

import numpy as np
import pytest
from PIL import Image

import tiny
from tuplet.training import checkpoint, run

UNIFORM = "batch={name='uniform', batch_size=12}"
IMAGES = (
    "data={source='{folder}/photos', split={by='row', test=0.3, validation=0.2}}",
    "model.encoder={name='conv-small', width=[4], norm='batch'}",
    "model.preprocessing={name='image', size=12, channels=3}",
    "train.augment={name='affine', rotate=0.1, crop=0.3, flip=true}",
)
REMEMBERED = {  # what to change, and the tensor in the checkpoint that keeps it
    "learned temperature": (("loss={name='info_nce', temperature='learned', symmetric=true}", UNIFORM), "log_scale"),
    "annealing": (("loss={name='a_softmax', annealing=[20.0, 1.0, 0.2, 1.0]}", UNIFORM), "calls"),
    "noise": (("loss={name='instance_discrimination', noise_samples=16, proximal=0.1}", UNIFORM), "calls"),
    "chunks with dropout": (("loss={name='supcon', queue=32}", "model.encoder.norm=layer", "train.chunk=5"), "queue"),
    "momentum and drops": (("train.optimizer='sgd'", "train.schedule='steps'", "train.clip=0.5"), None),
    "decoded images": (IMAGES, None),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number in range(60):
        place = folder / "photos" / "abcd"[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (14, 16, 3)) + 40 * (number % 4 == np.arange(3))
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return tiny.write(folder)


def trained(recipe, name, changes, *, until):
    """Runs of the same recipe: one undisturbed, one that another process goes on with."""
    changes = [change.replace("{folder}", str(recipe.parent)) for change in changes]
    whole, parts = (recipe.parent / "runs" / f"{name}-{part}" for part in ("whole", "parts"))
    list(run(tiny.job(recipe, *changes), whole))
    for event in run(tiny.job(recipe, *changes), parts):
        if (event["kind"], event.get("step")) == ("checkpoint", until):
            break
    saved = checkpoint.load(parts / "checkpoints" / checkpoint.name_of(until))
    list(run(tiny.job(recipe, *changes), parts, resume=True))
    assert tiny.event_log(parts) == tiny.event_log(whole)
    assert tiny.content(parts) == tiny.content(whole)
    return whole, saved


@pytest.mark.parametrize("what", REMEMBERED)
def test_a_resumed_training_ends_with_the_bytes_of_the_undisturbed_one(recipe, what):
    changes, has_state = REMEMBERED[what]
    _, saved = trained(recipe, what.replace(" ", "-"), [*changes, "train.steps=20"], until=10)
    if has_state is not None:
        new = tiny.job(recipe, *changes).loss.state_dict()
        kept = {name: tensor for name, tensor in saved.tensors["objective"].items() if has_state in name}
        assert kept
        assert any(not tensor.equal(new[name]) for name, tensor in kept.items()), "it has moved"


def test_a_resumed_training_goes_on_counting_its_patience(recipe):
    still = ["train.learning_rate=1e-30", "train.ema=0.0", "model.encoder.norm=none", "train.patience=3"]
    whole, saved = trained(recipe, "patience", still, until=15)
    assert (saved.progress.best_step, saved.progress.waited) == (5, 2)
    end = tiny.event_log(whole)[-1]
    assert (end["stopped_early"], end["step"]) == (True, 20)
