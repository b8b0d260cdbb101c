"""The folder of a run: nothing foreign is touched, nothing is lost without a word, one process at a time."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import tiny
from tuplet.app.history import read_runs
from tuplet.errors import CheckpointError, DataError
from tuplet.storage import Lock
from tuplet.training import checkpoint, run
from tuplet.training.claim import LOCK, claim_new
from tuplet.training.events import read_events

HERE = Path(__file__).parent
FOREIGN = {
    "step-000045-good": "a copy under another name",
    "notes": "a folder of the user's",
    ".step-best": "a hidden one",
    "step-1": "a name like a checkpoint's",
    ".cache": "of another tool",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="module")
def undisturbed(recipe):
    folder = recipe.parent / "runs" / "undisturbed"
    list(run(tiny.job(recipe), folder))
    return folder


@pytest.fixture(scope="module")
def begun(recipe):
    """A run that stopped after the checkpoint of step 10."""
    folder = recipe.parent / "runs" / "begun"
    for event in run(tiny.job(recipe), folder):
        if (event["kind"], event.get("step")) == ("checkpoint", 10):
            break
    return folder


@pytest.fixture
def halted(begun, tmp_path):
    """The same, for a test to do with it what it likes."""
    return shutil.copytree(begun, tmp_path / "halted")


def resumed(recipe, folder, **options):
    return list(run(tiny.job(recipe, *options.pop("overrides", ())), folder, resume=True, **options))


def assert_same(folder, undisturbed):
    """All but the recipe, whose paths start in its folder."""
    left, right = ({k: v for k, v in tiny.content(one).items() if k != "recipe.toml"} for one in (folder, undisturbed))
    assert left == right
    assert tiny.event_log(folder) == tiny.event_log(undisturbed)


def notes(events):
    return [event["text"] for event in events if event["kind"] == "note"]


@pytest.fixture
def start(typist, tmp_path):
    return lambda *arguments: typist.start(["python", HERE / "trainer.py", *arguments], tmp_path)


def test_what_tuplet_did_not_write_stays_among_the_checkpoints(recipe, halted, undisturbed, tmp_path, survived):
    folder = halted / "checkpoints"
    for name in FOREIGN:
        (folder / name).mkdir()
        (folder / name / "precious.txt").write_text(name)
    shutil.copytree(folder / "step-000010", folder / "step-000002")  # says that it is another step's
    shutil.copytree(folder / "step-000010", folder / "step-000003")
    (folder / "step-000003" / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious.txt").write_text("linked")
    (folder / "step-000004").symlink_to(tmp_path / "elsewhere")
    resumed(recipe, halted)
    for name in FOREIGN:
        assert (folder / name / "precious.txt").read_text() == name
    assert (folder / "step-000002" / "progress.json").exists()
    assert (folder / "step-000003" / "notes.txt").read_text() == "mine"
    assert (folder / "step-000004" / "precious.txt").read_text() == "linked"
    assert tiny.event_log(halted) == tiny.event_log(undisturbed)
    survived("foreign folders among checkpoints", len(FOREIGN) + 3)


def test_checkpoints_behind_a_link_are_used_and_what_lies_beside_them_stays(recipe, halted, tmp_path, survived):
    elsewhere = tmp_path / "disk"
    shutil.move(halted / "checkpoints", elsewhere)
    (elsewhere / "precious").mkdir()
    (halted / "checkpoints").symlink_to(elsewhere)
    resumed(recipe, halted)
    assert (elsewhere / "precious").is_dir()
    assert checkpoint.steps_in(elsewhere)[-1] == 40
    survived("foreign folders among checkpoints")


@pytest.mark.parametrize("how", ["deleted", "emptied", "unmounted"])
def test_a_run_whose_checkpoints_are_gone_is_not_begun_again_over_what_it_saved(recipe, halted, how, survived):
    if how == "deleted":
        shutil.rmtree(halted / "checkpoints")
    else:
        for entry in (halted / "checkpoints").iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if how == "unmounted":
            (halted / "checkpoints").rmdir()
            (halted / "checkpoints").symlink_to("/nowhere/at/all")
    before = read_events(halted / "events.jsonl")
    with pytest.raises(CheckpointError) as caught:
        resumed(recipe, halted)
    assert caught.value.reference == "no-checkpoints"
    assert read_events(halted / "events.jsonl") == before
    survived("checkpoints lost")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_checkpoints_that_may_not_be_read_are_named(recipe, halted):
    (halted / "checkpoints").chmod(0)
    with pytest.raises(CheckpointError) as caught:
        resumed(recipe, halted)
    (halted / "checkpoints").chmod(0o755)
    assert caught.value.reference == "no-permission"


@pytest.mark.parametrize("how", ["deleted", "emptied", "cut", "flipped", "no lines"])
def test_a_run_survives_the_loss_of_its_event_log(recipe, halted, undisturbed, how, survived):
    event_log = halted / "events.jsonl"
    content = event_log.read_bytes()
    match how:
        case "deleted":
            event_log.unlink()
        case "emptied":
            event_log.write_bytes(b"")
        case "cut":
            event_log.write_bytes(content[: len(content) // 2])
        case "flipped":
            event_log.write_bytes(content[:5] + b"\xff" + content[6:])
        case "no lines":
            event_log.write_bytes(b"\0" * 4000)
    said = notes(resumed(recipe, halted))
    assert "events.jsonl lacks" in said[1]
    events = read_events(event_log)
    assert events[-1]["kind"] == "end"
    assert [event["step"] for event in events if event["kind"] == "step"][-15:] == list(range(12, 41, 2))
    assert b"\0" not in event_log.read_bytes()
    kept = ("evaluation.json", "model/weights.safetensors")
    assert all((halted / name).read_bytes() == (undisturbed / name).read_bytes() for name in kept)
    assert [row["state"] for row in read_runs(halted.parent)] == ["done"]
    survived("event log lost, cut or changed")


def test_the_best_checkpoint_may_be_lost_without_the_training(recipe, tmp_path, survived):
    still = ["train.learning_rate=1e-30", "train.ema=0.0", "model.encoder.norm=none", "train.steps=15"]
    folder = tmp_path / "run"
    events = list(run(tiny.job(recipe, *still), folder))
    assert events[-1]["best_step"] == 5
    shutil.rmtree(folder / "checkpoints" / "step-000005")
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(lines[:-1]))  # killed before the end
    events = resumed(recipe, folder, overrides=still)
    assert (events[-1]["kind"], events[-1]["best_step"]) == ("end", 15)
    survived("checkpoints lost")


def test_every_bit_of_a_checkpoints_progress_is_looked_at(recipe, halted, survived):
    path = halted / "checkpoints" / "step-000010" / "progress.json"
    content = path.read_bytes()
    unnoticed = []
    for at in range(0, len(content) - 1, 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        try:
            checkpoint.load(path.parent)
            unnoticed.append(at)
        except CheckpointError:
            pass
    path.write_bytes(content)
    assert checkpoint.load(path.parent).progress.step == 10
    assert unnoticed == []
    survived("bits flipped in a checkpoint", len(range(0, len(content) - 1, 7)))


@pytest.mark.parametrize("name", ["resume.json", "examples.jsonl"])
@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
def test_a_run_that_no_longer_knows_what_it_was_given_does_not_go_on(recipe, halted, name, how, survived):
    path = halted / name
    content = path.read_bytes()
    match how:
        case "deleted":
            path.unlink()
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            path.write_bytes(content[:40] + bytes([content[40] ^ 2]) + content[41:])
    with pytest.raises(DataError) as caught:
        resumed(recipe, halted)
    assert caught.value.reference in ("missing-file", "damaged-file", "unknown-format")
    survived("what a run was given, lost or changed")


def test_a_finished_run_is_extended_by_name_only(recipe, undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    longer = ("train.steps=60", "train.validate_every=5")
    assert [event["kind"] for event in resumed(recipe, folder, overrides=longer)] == ["note"]
    assert tiny.content(folder) == tiny.content(undisturbed)
    events = resumed(recipe, folder, overrides=longer, extend=True)
    assert (events[-1]["kind"], events[-1]["step"]) == ("end", 60)
    kinds = [event["kind"] for event in tiny.event_log(folder)]
    assert (kinds.count("end"), kinds.count("extended")) == (1, 1)
    assert "steps = 60" in (folder / "recipe.toml").read_text()
    assert json.loads((folder / "resume.json").read_text())["settings"]["train.steps"] == 60
    assert [event["kind"] for event in resumed(recipe, folder, overrides=longer)] == ["note"]


def test_fewer_steps_than_were_taken_are_refused(recipe, halted):
    with pytest.raises(DataError) as caught:
        resumed(recipe, halted, overrides=("train.steps=10",), extend=True)
    assert caught.value.reference == "steps-taken"
    assert "steps = 40" in (halted / "recipe.toml").read_text()


def test_of_two_that_resume_one_run_one_is_refused(recipe, halted, undisturbed, start, survived):
    first = run(tiny.job(recipe), halted, resume=True)
    next(first)
    with pytest.raises(DataError) as caught:
        resumed(recipe, halted)
    assert caught.value.reference == "run-in-use"
    other = start(recipe, halted, "--resume")
    complaints = other.communicate(timeout=120)[1]
    assert (other.returncode, "in use" in complaints) == (3, True)
    list(first)
    assert_same(halted, undisturbed)
    survived("two processes in one folder", 2)


def test_a_lock_of_a_dead_process_is_nobodys(recipe, tmp_path, undisturbed, start, survived):
    folder = tmp_path / "run"
    process = start(recipe, folder)
    for line in process.lines():
        if line == "step 6\n":
            process.kill()
            break
    process.communicate(timeout=60)
    assert (folder / LOCK).exists()
    resumed(recipe, folder)
    assert_same(folder, undisturbed)
    survived("killed while it held the lock")


def test_two_new_runs_of_one_name_take_two_folders(tmp_path, survived):
    first = claim_new(tmp_path, "run", may_number=True)
    second = claim_new(tmp_path, "run", may_number=True)
    assert (first.folder.name, second.folder.name) == ("run", "run-2")
    with pytest.raises(DataError) as caught:
        claim_new(tmp_path, "run", may_number=False)
    assert caught.value.reference == "run-in-use"
    first.give_back()
    second.give_back()
    assert list(tmp_path.iterdir()) == []
    survived("two processes in one folder")


def test_a_run_that_ended_before_it_saved_anything_does_not_block_the_next_try(recipe, tmp_path, survived):
    job = tiny.job(recipe)
    job.train.inputs[:, 3] = float("nan")
    with pytest.raises(Exception, match="NaN"):
        list(run(job, tmp_path / "run"))
    assert [row["state"] for row in read_runs(tmp_path)] == ["diverged at step 1"]
    claim = claim_new(tmp_path, "run", may_number=False)
    events = list(run(tiny.job(recipe, "train.steps=5"), claim.folder, claim=claim))
    assert "starts again" in events[0]["text"]
    assert events[-1]["kind"] == "end"
    with pytest.raises(DataError) as caught:
        claim_new(tmp_path, "run", may_number=False)
    assert caught.value.reference == "run-exists"
    survived("failed before the first checkpoint")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_before_it_stops(recipe, undisturbed, tmp_path, number, start, survived):
    folder = tmp_path / "run"
    process = start(recipe, folder)
    for line in process.lines():
        if line == "step 6\n":
            process.send_signal(number)
            break
    seen, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (130, ""), seen
    saved = checkpoint.steps_in(folder / "checkpoints")[-1]
    assert 6 <= saved < 40
    events = read_events(folder / "events.jsonl")
    assert (events[-1]["kind"], events[-1]["step"]) in [("interrupted", saved), ("checkpoint", saved)]
    resumed(recipe, folder)
    assert tiny.event_log(folder) == tiny.event_log(undisturbed)
    survived("stopped by a signal")


def test_a_lock_is_held_by_one_and_free_after_it(tmp_path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert [first.take(), second.take(), first.take()] == [True, False, True]
    first.give_back()
    assert not (tmp_path / "lock").exists()
    assert second.take()
    second.give_back()


def test_a_validation_that_has_no_number_does_not_lose_the_model(tmp_path):
    recipe = tiny.write(tmp_path)
    rows = np.load(tmp_path / "rows.npy")
    split = ["test" if row % 3 == 0 else "validation" if row % 3 == 1 else "train" for row in range(len(rows))]
    lines = [
        ",".join([*map(str, row), "1.5" if part == "validation" else str(row.sum()), part])
        for row, part in zip(rows, split, strict=True)
    ]
    (tmp_path / "graded.csv").write_text("\n".join(["x0,x1,x2,x3,x4,x5,target,split", *lines]) + "\n")
    graded = ("loss={name='log_ratio'}", "batch={name='uniform', batch_size=12}", "train.steps=10")
    job = tiny.job(recipe, f"data={{source='{tmp_path}/graded.csv', split={{by='row'}}}}", *graded)
    events = list(run(job, tmp_path / "run"))
    assert (events[-1]["kind"], events[-1]["best_step"]) == ("end", 10)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["main"]["protocol"] == "targets"


def test_a_group_that_holds_whole_classes_is_left_out_with_a_sentence(tmp_path):
    recipe = tiny.write(tmp_path)
    rows, labels = np.load(tmp_path / "rows.npy"), np.load(tmp_path / "rows.labels.npy")
    lines = [
        ",".join([*map(str, row), f"species{label}", f"genus{label // 3}"])
        for row, label in zip(rows, labels.tolist(), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["x0,x1,x2,x3,x4,x5,label,group", *lines]) + "\n")
    job = tiny.job(recipe, f"data.source='{tmp_path}/rows.csv'", "train.steps=5")
    events = list(run(job, tmp_path / "run"))
    conclusion = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert events[-1]["kind"] == "end"
    assert "other_groups" not in conclusion["protocols"]
    assert [said for said in conclusion["left_out"] if "other_groups" in said]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_run_that_may_not_be_read_does_not_hide_the_others(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "mine")
    shutil.copytree(undisturbed, tmp_path / "theirs")
    (tmp_path / "theirs" / "evaluation.json").chmod(0)
    assert {Path(row["run"]).name: row["state"] for row in read_runs(tmp_path)} == {
        "mine": "done",
        "theirs": "unreadable",
    }


def test_whatever_stands_in_the_place_of_a_file_hides_no_other_run(undisturbed, tmp_path, survived):
    shutil.copytree(undisturbed, tmp_path / "whole")
    for name in ("recipe.toml", "evaluation.json", "events.jsonl"):
        for how in ("folder", "pipe", "deep"):
            place = tmp_path / f"{name}-{how}"
            shutil.copytree(undisturbed, place)
            (place / name).unlink()
            if how == "folder":
                (place / name).mkdir()
            elif how == "pipe":
                os.mkfifo(place / name)
            else:
                (place / name).write_text("[" * 100_000 + "\n")
    began = time.monotonic()
    states = {Path(row["run"]).name: row["state"] for row in read_runs(tmp_path)}
    assert time.monotonic() - began < 60, "a pipe has no writer: whoever opens it waits"
    assert len(states) == 10
    assert states.pop("whole") == "done"
    assert set(states.values()) == {"damaged"}
    survived("unreadable runs among others", 9)
