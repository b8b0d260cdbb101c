"""Training, evaluation, searching and embedding, typed as a person types them."""

import json
import re
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine

from tuplet.app.cli.follow import _Bar
from tuplet.app.report.gallery import read_gallery


@pytest.fixture
def wine(tmp_path):
    """A folder with a table of numbers."""
    found = load_wine()
    header = ",".join(f"x{number}" for number in range(found.data.shape[1]))
    rows = [
        ",".join(map(str, row)) + f",{found.target_names[label]}"
        for row, label in zip(found.data, found.target, strict=True)
    ]
    (tmp_path / "wine.csv").write_text("\n".join([f"{header},label", *rows]) + "\n")
    return tmp_path


def test_training_leaves_a_complete_run(run, trained):
    expected = {
        "recipe.toml",
        "environment.json",
        "events.jsonl",
        "evaluation.json",
        "report.html",
        "checkpoints",
        "model",
    }
    assert expected <= {path.name for path in run.iterdir()}
    assert "steps" in tomllib.loads((run / "recipe.toml").read_text())["train"]
    assert "report  runs/digits/report.html" in trained.stderr


def test_results_go_to_stdout_and_progress_to_stderr(run, trained):
    header, first, *_ = (line.split("\t") for line in trained.stdout.splitlines())
    row = dict(zip(header, first, strict=True))
    evaluated = json.loads((run / "evaluation.json").read_text())["protocols"]["all"]
    assert row["measure"] == "recall@1"
    for of in ("raw", "model"):
        for name, end in (("", "values"), ("_low", "lower"), ("_high", "upper")):
            assert float(row[of + name]) == pytest.approx(evaluated[of][end]["recall@1"], abs=5e-5)
    assert "validation, step 10: map@r" in trained.stderr
    assert "validation, raw input: map@r" in trained.stderr


def test_an_array_with_labels_is_trained_on_evaluated_and_searched(tmp_path, tuplet):
    found = load_iris()
    np.save(tmp_path / "iris.npy", found.data.astype(np.float32))
    np.save(tmp_path / "iris.labels.npy", found.target)
    tuplet("train", "iris.npy", "--steps", "10", folder=tmp_path)
    evaluated = json.loads(tuplet("evaluate", "runs/iris", "--json", folder=tmp_path).stdout)
    assert evaluated["protocols"]["all"]["model"]["values"]["recall@1"] > 0.8
    table = tuplet("search", "runs/iris", "iris.npy", "-k", "1", folder=tmp_path).stdout.splitlines()
    assert len(table) == 1 + 150
    assert "thumb large" not in (tmp_path / "runs" / "iris" / "report.html").read_text()


def test_a_full_disk_leaves_what_was_there_and_nothing_half_written(workplace, run, typist, tmp_path):
    """A limit on the size of files stands for the full disk: the system refuses the write in the same way."""
    before, report = sorted(run.iterdir()), (run / "report.html").read_bytes()
    text = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from tuplet.app.cli import main; main()"
    )
    for words in (["report", run], ["embed", run, "digits", "-o", tmp_path / "out.npy"]):
        done = typist(["python", "-c", text, *words], workplace)
        assert done.returncode == 3
        assert "tuplet explain disk-full" in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(run.iterdir()) == before
    assert (run / "report.html").read_bytes() == report
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_trained_on_twice_in_two_folders_and_searched_by_a_table(wine, tuplet):
    first, second = (
        json.loads(tuplet("train", "wine.csv", "--steps", steps, "--json", folder=wine).stdout) for steps in (20, 10)
    )
    assert (first["run"], second["run"]) == ("runs/wine", "runs/wine-2")
    assert first["protocols"]["all"]["model"]["values"]["recall@1"] > 0.8
    taken = tuplet("train", "wine.csv", "--name", "wine", folder=wine, code=3)
    assert "tuplet train --resume runs/wine" in taken.stderr
    rows = [json.loads(line) for line in tuplet("runs", "--json", folder=wine).stdout.splitlines()]
    assert {row["run"]: row["differs"] for row in rows} == {
        "runs/wine": "train.steps=20",
        "runs/wine-2": "train.steps=10",
    }
    assert [row["model"] for row in rows] == sorted(row["model"] for row in rows)
    shown = tuplet("search", "runs/wine", "wine.csv", "-k", "1", "--json", folder=wine).stdout
    assert len(shown.splitlines()) == 178
    refused = tuplet("search", "runs/wine", "red", folder=wine, code=3)
    assert ".csv" in refused.stderr


def test_evaluate_shows_what_the_run_measured(run, workplace, tuplet):
    shown = json.loads(tuplet("evaluate", "runs/digits", "--json", folder=workplace).stdout)
    assert shown.pop("conclusion") in ("better", "worse", "undecided")
    assert shown == json.loads((run / "evaluation.json").read_text())


def test_evaluate_evaluates_other_data(workplace, run, tuplet):
    words = ("evaluate", "runs/digits", "--data", "digits", "--json")
    evaluated = json.loads(tuplet(*words, folder=workplace).stdout)
    assert evaluated["data"]["splits"]["given"]["examples"] == 400
    assert evaluated["protocols"]["all"]["model"]["counts"]["n_queries"] == 400


def test_a_required_quality_decides_the_exit_code(workplace, run, tuplet):
    words = ("evaluate", "runs/digits", "--require")
    tuplet(*words, "recall@1=0.5", folder=workplace)
    missed = tuplet(*words, "recall@1=0.5", "--require", "map@r=1.5", folder=workplace, code=6)
    assert "map@r" in missed.stderr
    assert "recall@1 of" not in missed.stderr
    unknown = tuplet(*words, "beauty=1", folder=workplace, code=2)
    assert "recall@1" in unknown.stderr  # names what was measured


def test_search_finds_an_indexed_image_first_by_argument_folder_and_stdin(workplace, run, tuplet):
    items = [json.loads(line) for line in (run / "gallery" / "items.jsonl").read_text().splitlines()]
    path = f"digits/{items[0]['id']}"
    words = ("search", "runs/digits", "--top", "2", "--json")
    by_argument = tuplet(*words, path, folder=workplace).stdout
    hits = [json.loads(line) for line in by_argument.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert (hits[0]["id"], hits[0]["label"], hits[0]["query"]) == (items[0]["id"], items[0]["label"], path)
    assert hits[0]["score"] == pytest.approx(0, abs=1e-3)  # its distance: the recipe's loss compares by distance
    assert hits[0]["score"] <= hits[1]["score"]
    assert tuplet(*words, "-", folder=workplace, stdin=f"{path}\n").stdout == by_argument
    table = tuplet("search", "runs/digits", "digits/3", "-k", "1", folder=workplace).stdout.splitlines()
    assert table[0] == "query\trank\tid\tlabel\tsplit\tscore"
    assert len(table) == 1 + len(list((workplace / "digits" / "3").iterdir()))


def test_search_finds_every_example_of_the_data_and_says_which_split_it_is_from(workplace, run, tuplet):
    items = [json.loads(line) for line in (run / "gallery" / "items.jsonl").read_text().splitlines()]
    pictures = sorted(
        path.relative_to(workplace / "digits").as_posix() for path in (workplace / "digits").rglob("*.png")
    )
    assert sorted(item["id"] for item in items) == pictures
    splits = {item["id"]: item["split"] for item in items}
    assert set(splits.values()) == {"train", "validation", "test"}
    chosen = [next(name for name, split in splits.items() if split == wanted) for wanted in ("train", "validation")]
    words = ("search", "runs/digits", "--top", "1", "--json", *(f"digits/{name}" for name in chosen))
    hits = [json.loads(line) for line in tuplet(*words, folder=workplace).stdout.splitlines()]
    assert [(hit["id"], hit["split"]) for hit in hits] == [(name, splits[name]) for name in chosen]


def test_only_the_test_split_is_evaluated_and_shown_in_the_report(run):
    splits = [json.loads(line)["split"] for line in (run / "gallery" / "items.jsonl").read_text().splitlines()]
    evaluated = json.loads((run / "evaluation.json").read_text())
    assert evaluated["split"] == "test"
    counts = evaluated["protocols"][evaluated["main"]["protocol"]]["model"]["counts"]
    assert 0 < counts["n_queries"] <= splits.count("test") < len(splits)
    assert len(read_gallery(run).ids) == splits.count("test")


def test_a_reader_that_stops_early_is_no_error(workplace, run):
    command = f"{sys.executable} -m tuplet search runs/digits digits -k 50 --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=workplace, capture_output=True, text=True, check=True)  # noqa: S602
    assert json.loads(done.stdout)["rank"] == 1
    assert done.stderr == ""


def test_embed_writes_rows_in_the_order_of_their_names(workplace, run, tuplet, tmp_path):
    out = tmp_path / "out.npy"
    words = ("embed", "runs/digits", "digits/3", "digits/4")
    tuplet(*words, "-o", out, folder=workplace)
    names = out.with_suffix(".ids.txt").read_text().splitlines()
    rows = [
        json.loads(line)
        for line in tuplet(
            "embed", "runs/digits", "digits/3", "digits/4", "--json", folder=workplace
        ).stdout.splitlines()
    ]
    assert [row["id"] for row in rows] == names
    np.testing.assert_allclose(np.load(out), [row["embedding"] for row in rows], rtol=1e-6)
    assert len(set(names)) == len(names) > 50
    geometry = json.loads((run / "evaluation.json").read_text())["geometry"]
    beside = json.loads(out.with_suffix(".json").read_text())
    is_unit = bool(np.allclose(np.linalg.norm(np.load(out), axis=1), 1))
    assert (beside["geometry"], beside["rows"]) == (geometry, len(names))
    assert is_unit == beside["normalised"] == (geometry == "cosine")
    longer = tmp_path / "longer.npy"
    tuplet(*words, "-o", longer, "--unnormalised", folder=workplace)
    assert json.loads(longer.with_suffix(".json").read_text())["normalised"] is False
    assert not np.allclose(np.linalg.norm(np.load(longer), axis=1), 1)
    refused = tuplet(*words, "-o", tmp_path / "absent" / "out.npy", folder=workplace, code=3)
    assert f"No such file or directory ({tmp_path / 'absent' / 'out.npy'})" in refused.stderr


def test_every_measure_of_the_report_can_be_required(workplace, run, tuplet):
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluated = evaluation["protocols"]["verification"]["model"]
    assert {"auc", "eer", "tar@far=0.001", "tar@far=0.01", "tar@far=0.1"} <= set(evaluated["values"])
    shown = re.findall(r"TAR at FAR ([0-9.]+)", (run / "report.html").read_text(encoding="utf-8"))
    assert shown
    value = evaluated["values"]["tar@far=0.1"]
    for bound, code in ((value - 1e-6, 0), (value + 1e-6, 6)):
        tuplet("evaluate", "runs/digits", "--require", f"tar@far=0.1={bound}", folder=workplace, code=code)
    tuplet(
        "evaluate",
        "runs/digits",
        "--require",
        f"verification:eer={evaluated['values']['eer'] + 1e-6}",
        folder=workplace,
    )
    said = json.loads(tuplet("evaluate", "runs/digits", "--json", folder=workplace).stdout)
    assert said["conclusion"] in ("better", "worse", "undecided")


@pytest.mark.parametrize("command", ["evaluate", "embed", "search", "report"])
def test_whatever_computes_takes_a_device(workplace, run, tuplet, command):
    words = {
        "evaluate": ["--data", "digits"],
        "embed": ["digits/3", "--json"],
        "search": ["digits/3", "--top", "1"],
        "report": [],
    }[command]
    there = tuplet(command, "runs/digits", *words, "--device", "cpu", folder=workplace).stdout
    if command in ("embed", "search"):
        assert there == tuplet(command, "runs/digits", *words, folder=workplace).stdout
    for name in ("meta", "nonsense"):
        tuplet(command, "runs/digits", *words, "--device", name, folder=workplace, code=2)


def test_ctrl_c_saves_and_says_how_to_go_on(wine, typist, tuplet):
    words = [
        "train",
        "wine.csv",
        "--name",
        "long",
        "--out",
        "stopped",
        "--steps",
        "100000",
        "--set",
        "train.validate_every=50000",
        "--set",
        "train.patience=0",
    ]
    started = typist.start(words, wine)
    event_log = wine / "stopped" / "long" / "events.jsonl"
    while not event_log.exists() or event_log.read_text().count('"step"') < 5:
        assert started.poll() is None
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate()
    assert started.returncode == 130
    assert "tuplet train --resume stopped/long" in said
    assert "Traceback" not in said
    saved = (wine / "stopped" / "long" / "checkpoints" / "LATEST").read_text()
    assert "step-" in saved
    rows = [json.loads(line) for line in tuplet("runs", "stopped", "--json", folder=wine).stdout.splitlines()]
    (row,) = (row for row in rows if row["run"] == "stopped/long")
    assert row["state"].endswith("of 100000")
    missing = tuplet("evaluate", "stopped/long", folder=wine, code=3)
    assert "tuplet train --resume stopped/long" in missing.stderr


def test_the_bar_of_a_resumed_training_knows_its_end():
    bar = _Bar(1500)
    bar.see({"kind": "step", "step": 360, "examples_per_second": 10.0, "loss": 1.0})
    assert (bar.progress.tasks[0].completed, bar.progress.tasks[0].total) == (360, 1500)
