"""A collapsing embedding is announced while it happens."""

import itertools

import pytest
import torch

import tiny
from tuplet.seeding import derive
from tuplet.training import CLOCKS, run
from tuplet.training.checkpoint import Progress
from tuplet.training.collapse import LEAST_DISTANCE, advice, is_lost, measure_spread

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
    assert "--set loss=supcon" in events[said[0]]["text"]
    assert steps[0]["spread"]["distance"] > 2 * LEAST_DISTANCE
    begins = [now["is_collapsed"] and not before["is_collapsed"] for before, now in itertools.pairwise(steps)]
    assert sum(begins) == len(said)
    saved = [event["is_collapsed"] for event in tiny.event_log(tmp_path / "run") if event["kind"] == "step"]
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


LONG = ("train.steps=200", "train.validate_every=20", "evaluate.bootstrap=5")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.3, 0.03])
def test_a_training_ends_once_its_embedding_has_collapsed_and_keeps_the_best_step(recipe, tmp_path, rate):
    events = list(run(tiny.job(recipe, *COLLAPSING, *LONG, f"train.learning_rate={rate}"), tmp_path / "run"))
    reported = next(event for event in events if event["kind"] == "collapsed")
    end = events[-1]
    best = next(event["step"] for event in reversed(events) if event.get("best") and event["split"] == "validation")
    assert (end["kind"], end["stopped_early"], end["step"]) == ("end", True, reported["step"])
    assert reported["step"] <= 160
    assert reported["best_step"] == end["best_step"] == best
    steps = [event for event in events if event["kind"] == "step"]
    assert all(event["is_collapsed"] == (event["step"] >= reported["since"]) for event in steps if event["step"] >= 32)
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_what_is_advised_helps_where_a_tenth_of_the_rate_collapses_too(recipe, tmp_path):
    changes = (*COLLAPSING[1:], "train.steps=100", "train.validate_every=50", "evaluate.bootstrap=5")
    events = list(run(tiny.job(recipe, *changes, "loss=supcon"), tmp_path / "run"))
    assert not any(event["is_collapsed"] for event in events if event["kind"] == "step")
    assert events[-1]["step"] == 100


def test_a_collapsed_training_goes_on_if_asked_to(recipe, tmp_path):
    job = tiny.job(recipe, *COLLAPSING, *LONG, "train.steps=120", "train.stop_collapsed=false")
    events = list(run(job, tmp_path / "run"))
    assert events[-1]["step"] == 120
    assert not any(event["kind"] == "collapsed" for event in events)


@pytest.mark.slow
def test_a_training_resumed_within_a_collapse_ends_at_the_same_step(recipe, tmp_path):
    changes = (*COLLAPSING, *LONG)
    whole = list(run(tiny.job(recipe, *changes), tmp_path / "whole"))
    for event in (events := run(tiny.job(recipe, *changes), tmp_path / "cut")):
        if event["kind"] == "checkpoint" and event["step"] == 80:
            events.close()
            break
    resumed = list(run(tiny.job(recipe, *changes), tmp_path / "cut", resume=True))
    ends = [{k: v for k, v in found[-1].items() if k not in CLOCKS} for found in (whole, resumed)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("step", "since", "best", "is_chosen", "lost"),
    [
        (600, 0, 450, True, False),
        (600, 510, 450, True, True),
        (550, 510, 450, True, False),
        (600, 510, 600, True, False),
        (600, 20, 150, True, False),
        (900, 20, 150, True, True),
        (900, 20, 900, True, False),
        (600, 510, 600, False, False),
        (1300, 510, 1300, False, True),
    ],
    ids=[
        "healthy",
        "the best step is from before",
        "too short",
        "better all the same",
        "may open yet",
        "did not open in half of the training",
        "poor and better",
        "nobody chooses",
        "nobody chooses, and half of the training is lost",
    ],
)
def test_a_training_is_lost_only_if_a_collapse_lasts_and_nothing_since_was_better(step, since, best, is_chosen, lost):
    progress = Progress(step=step, collapsed_since=since, best_step=best)
    assert is_lost(progress, 1500, is_chosen=is_chosen) == lost


@pytest.mark.parametrize(
    ("changes", "wanted", "unwanted"),
    [
        (("batch.classes_per_batch=9",), ("loss=supcon", "batch.classes_per_batch=8"), "learning_rate"),
        (("batch.classes_per_batch=4",), ("loss=supcon",), "classes_per_batch"),
        (("batch.classes_per_batch=9", "loss=supcon"), ("batch.classes_per_batch=8",), "loss=supcon"),
        (
            ("loss=nt_xent", "batch={name='uniform', batch_size=8}", "train.warmup=0.1"),
            ("train.warmup=0.4",),
            "classes_per_batch",
        ),
    ],
)
def test_the_advice_suits_loss_and_batch(recipe, changes, wanted, unwanted):
    said = advice(tiny.job(recipe, COLLAPSING[0], "data.split.validation=0.0", "data.split.test=0.2", *changes))
    assert all(f"--set {one}" in said for one in wanted)
    assert unwanted not in said


def random(*shape):
    return torch.randn(*shape, generator=derive(0, "rows"))


def test_few_directions_are_a_collapse_but_not_where_there_are_few_classes():
    line = random(64, 1) * random(1, 32)
    assert measure_spread(line, None, "cosine").is_collapsed
    assert measure_spread(line, torch.arange(64), "cosine").is_collapsed
    assert not measure_spread(line, torch.arange(64) % 2, "cosine").is_collapsed
    assert not measure_spread(line, random(64, 1), "cosine").is_collapsed
    assert not measure_spread(random(64, 32), None, "cosine").is_collapsed


@pytest.mark.parametrize(("geometry", "is_collapsed"), [("cosine", False), ("euclidean", True)])
def test_small_embeddings_are_a_collapse_only_where_their_size_counts(geometry, is_collapsed):
    assert measure_spread(0.001 * random(64, 32), None, geometry).is_collapsed == is_collapsed


def test_the_distance_is_the_mean_over_all_pairs():
    rows = random(20, 5)
    expected = torch.pdist(rows.double()).square().mean().sqrt()
    torch.testing.assert_close(measure_spread(rows, None, "euclidean").distance, float(expected), rtol=1e-5, atol=0)
