"""What tuplet 0.1 wrote, kept under `tests/fixtures/0.1`: models, two runs, their recipes and their data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tuplet.index import FlatIndex
from tuplet.models import Embedder

KEPT = Path(__file__).parents[1] / "fixtures" / "0.1"


@pytest.fixture
def home(tmp_path):
    """A copy to work in."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    return tmp_path


def interrupted(run):
    """As it was after the fourth of its eight steps."""
    for name in ("model", "gallery", "checkpoints/step-000008"):
        shutil.rmtree(run / name)
    (run / "evaluation.json").unlink()
    (run / "checkpoints" / "LATEST").write_text("step-000004\n")
    return run


def require_same_weights(run, kept):
    """But for rounding, and for the bias before the batch normalisation: its gradient is rounding and nothing else."""
    found, expected = (load_file(one / "model" / "weights.safetensors") for one in (run, kept))
    assert found.keys() == expected.keys()
    for name in found.keys() - {"layers.0.bias", "layers.1.running_mean"}:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def rows(said):
    return [json.loads(line) for line in said.stdout.splitlines()]


def evaluation(run):
    return json.loads((run / "evaluation.json").read_text())["protocols"]


@pytest.mark.parametrize("kind", ["text", "series", "image"])
def test_a_model_embeds_as_it_did(kind):
    known = json.loads((KEPT / "models" / "expected.json").read_text())[kind]
    items = known["items"]
    if kind == "image":
        items = [KEPT / path for path in items]
    if kind == "series":
        items = np.array(items, dtype=np.float32)[:, None]
    embedder = Embedder.load(KEPT / "models" / kind)
    torch.testing.assert_close(embedder.embed(items), torch.tensor(known["embeddings"]))
    assert embedder.content_hash() == json.loads((KEPT / "models" / kind / "embedder.json").read_text())["hash"]


def test_a_run_is_listed_evaluated_reported_and_searched(home, typed):
    before = evaluation(home / "kept" / "flowers")
    assert {row["run"]: row["state"] for row in rows(typed("runs", "kept", "--json"))} == {
        "kept/flowers": "done",
        "kept/garden": "done",
    }
    [shown] = rows(typed("evaluate", "kept/flowers", "--json"))
    assert shown["protocols"]["all"]["model"]["values"] == before["all"]["model"]["values"]
    typed("report", "kept/flowers")
    assert (home / "kept" / "flowers" / "report.html").stat().st_size > 10**6
    said = typed("search", "kept/flowers", "flowers.csv", "-k", "1", "--json")
    hits = [json.loads(row) for row in said.stdout.splitlines()]
    names = {json.loads(row)["id"] for row in (KEPT / "kept/flowers/gallery/items.jsonl").read_text().splitlines()}
    assert len(names) == 18
    own = {hit["query"]: hit for hit in hits if hit["query"] in names}
    assert {name: hit["id"] for name, hit in own.items()} == {name: name for name in names}
    found = [
        json.loads(row)
        for row in typed("search", "kept/garden", "--text", "rose", "-k", "1", "--json").stdout.splitlines()
    ]
    assert found[0]["id"] == "rose"


@pytest.mark.parametrize("command", [("embed", "-o", "rows.npy"), ("search",), ("evaluate", "--data")])
def test_inputs_whose_names_a_model_does_not_know_are_reported(home, typed, command):
    lines = [line.split(",") for line in (home / "flowers.csv").read_text().split()]
    (home / "other.csv").write_text("\n".join(",".join((row[0], row[2], row[1], *row[3:])) for row in lines))
    name, *options = command
    run = "kept/flowers/model" if name == "embed" else "kept/flowers"
    words = (name, run, *options, "other.csv") if name == "evaluate" else (name, run, "other.csv", *options)
    [printed] = [line for line in typed(*words).stderr.splitlines() if "names of its inputs" in line]
    assert printed.endswith("b, a, c, d.")


@pytest.mark.parametrize("name", ["flowers", "garden"])
def test_an_interrupted_run_comes_to_the_weights_that_it_came_to(home, typed, name):
    run = interrupted(home / "kept" / name)
    typed("train", "--resume", f"kept/{name}")
    require_same_weights(run, KEPT / "kept" / name)
    assert {"resume.json", "report.html"} <= {path.name for path in run.iterdir()}
    assert json.loads((run / "checkpoints" / "step-000008" / "progress.json").read_text())["format"] == 2


def test_the_record_of_a_run_begins_where_it_goes_on(home, typed):
    run = home / "kept" / "flowers"
    typed("train", "--resume", "kept/flowers", "--steps", "12")
    assert json.loads((run / "resume.json").read_text())["settings"]["train.steps"] == 12
    table = (home / "flowers.csv").read_text()
    (home / "flowers.csv").write_text(table.replace("k3", "k4", 1))
    assert "data-changed" in typed("train", "--resume", "kept/flowers", "--steps", "16", code=3).stderr


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda lines: lines[:-12], id="examples-of-training-gone"),
        pytest.param(lambda lines: lines[:-6], id="other-classes-in-validation"),
        pytest.param(lambda lines: [lines[0], *(line.replace(",-", ",") for line in lines[1:])], id="other-numbers"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(home, typed, change):
    run = interrupted(home / "kept" / "flowers")
    lines = (home / "flowers.csv").read_text().splitlines(keepends=True)
    (home / "flowers.csv").write_text("".join(change(lines)))
    assert "data-changed" in typed("train", "--resume", "kept/flowers", code=3).stderr
    assert not (run / "resume.json").exists()


def test_what_a_run_has_seen_is_not_guessed(home, typed):
    assert "no-record" in typed("train", "flowers.csv", "--from", "kept/flowers", code=3).stderr


def test_a_run_of_today_that_lost_its_record_is_not_taken_for_one(home, typed):
    typed("train", "--resume", "kept/flowers", "--steps", "12")
    (home / "kept" / "flowers" / "resume.json").unlink()
    assert "missing-file" in typed("train", "--resume", "kept/flowers", "--steps", "16", code=3).stderr


def test_recipes_train_to_the_same_weights(home, typed):
    typed("train", "kept/flowers/recipe.toml", "--name", "again")
    require_same_weights(home / "runs" / "again", KEPT / "kept" / "flowers")


def test_an_index_grows_and_is_then_of_today(home):
    index = FlatIndex(home / "kept" / "flowers" / "gallery")
    assert (len(index), index.columns["label"], index.check()) == (18, "text", [])
    vector = torch.tensor(index.embeddings[:1]) * 2
    assert index.remove(["12"]) == 1
    assert index.insert([{"id": "new", "label": "k2"}], ["0f" * 16], vector) == 1
    opened = FlatIndex(home / "kept" / "flowers" / "gallery")
    assert (len(opened), opened.check(), opened.known(["new", "12"])) == (18, [], {"new": "0f" * 16})
    assert opened.search(vector, 1).ids == (("new",),)


@pytest.mark.parametrize(("path", "change"), [("index.json", b'"count": 19'), ("items.jsonl", b"")])
def test_a_torn_index_is_refused(home, typed, path, change):
    torn = home / "kept" / "flowers" / "gallery" / path
    torn.write_bytes(torn.read_bytes().replace(b'"count": 18', change) if path == "index.json" else change)
    assert "damaged-file" in typed("search", "kept/flowers", "flowers.csv", code=3).stderr
