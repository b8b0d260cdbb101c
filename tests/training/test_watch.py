"""A collapsing embedding is announced while it happens."""

import itertools

import pytest
import torch

import tiny
from tuplet.seeding import derive
from tuplet.training import run
from tuplet.training.watch import LEAST_DISTANCE, spread_of

COLLAPSING = (
    "loss={name='triplet', select='batch_hard', geometry='cosine'}",
    "model.encoder.norm=none",
    "train.learning_rate=0.3",
    "train.warmup=0.0",
    "train.ema=0.0",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def test_hard_triplets_at_too_large_a_rate_collapse_and_it_is_said_at_once(recipe, tmp_path):
    events = list(run(tiny.job(recipe, *COLLAPSING), tmp_path / "run"))
    said = [place for place, event in enumerate(events) if event["kind"] == "note" and "collapsing" in event["text"]]
    steps = [event for event in events if event["kind"] == "step"]
    first = next(event for event in steps if event["is_collapsed"])
    assert events[said[0] - 1] is first
    assert first["step"] < 40
    assert (
        f"Step {first['step']}: the embedding is collapsing: all embeddings move to one place"
        in (events[said[0]]["text"])
    )
    assert "--set train.learning_rate=0.03" in events[said[0]]["text"]
    assert steps[0]["spread"]["distance"] > 2 * LEAST_DISTANCE
    begins = [now["is_collapsed"] and not before["is_collapsed"] for before, now in itertools.pairwise(steps)]
    assert sum(begins) == len(said)
    saved = [event["is_collapsed"] for event in tiny.diary(tmp_path / "run") if event["kind"] == "step"]
    assert saved == [event["is_collapsed"] for event in steps]


def test_while_the_learning_rate_rises_nothing_is_said(recipe, tmp_path):
    changes = [change for change in COLLAPSING if "warmup" not in change]
    events = list(run(tiny.job(recipe, *changes, "train.warmup=0.9"), tmp_path / "run"))
    steps = [event for event in events if event["kind"] == "step"]
    rising = 0.9 * steps[-1]["step"]
    assert any(event["spread"]["distance"] < LEAST_DISTANCE for event in steps if event["step"] <= rising)
    assert not any(event["is_collapsed"] for event in steps if event["step"] <= rising)


def test_a_healthy_training_says_nothing(recipe, tmp_path):
    events = list(run(tiny.job(recipe, "train.steps=10"), tmp_path / "run"))
    steps = [event for event in events if event["kind"] == "step"]
    assert not any(event["is_collapsed"] for event in steps)
    assert all(0 <= event["waited"] < 1 for event in steps)
    assert not [event for event in events if event["kind"] == "note"]


def random(*shape):
    return torch.randn(*shape, generator=derive(0, "rows"))


def test_few_directions_are_a_collapse_but_not_where_there_are_few_classes():
    line = random(64, 1) * random(1, 32)
    assert spread_of(line, None, "cosine").is_collapsed
    assert spread_of(line, torch.arange(64), "cosine").is_collapsed
    assert not spread_of(line, torch.arange(64) % 2, "cosine").is_collapsed
    assert not spread_of(line, random(64, 1), "cosine").is_collapsed
    assert not spread_of(random(64, 32), None, "cosine").is_collapsed


@pytest.mark.parametrize(("geometry", "is_collapsed"), [("cosine", False), ("euclidean", True)])
def test_small_embeddings_are_a_collapse_only_where_their_size_counts(geometry, is_collapsed):
    assert spread_of(0.001 * random(64, 32), None, geometry).is_collapsed == is_collapsed


def test_the_distance_is_the_mean_over_all_pairs():
    rows = random(20, 5)
    expected = torch.pdist(rows.double()).square().mean().sqrt()
    torch.testing.assert_close(spread_of(rows, None, "euclidean").distance, float(expected), rtol=1e-5, atol=0)
