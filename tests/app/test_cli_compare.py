"""`tuplet compare` from a table to its page; killed and gone on with; with a loss of another library."""

import json
import signal
import time

import numpy as np
import pytest

THEIRS = "borrowed.Softmax"
BORROWED = """
import torch
from torch import nn

class Softmax(nn.Module):
    def __init__(self, num_classes, embedding_size, scale=16, k=1, kind="plain", **rest):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_size))
        self.scale = scale

    def forward(self, embeddings, labels):
        x, w = (nn.functional.normalize(one, dim=1) for one in (embeddings, self.weight))
        return nn.functional.cross_entropy(self.scale * x @ w.T, labels)
"""
CHANGES = ["--set", "data.split.test=0.4", "--set", "batch.classes_per_batch=12"]
BUDGET = ["--steps", "20", "--trials", "2", "--seeds", "2", *CHANGES]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Forty classes of six rows, near one another."""
    folder = tmp_path_factory.mktemp("compare")
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 6)
    rows = random.normal(size=(40, 5))[labels] + random.normal(size=(240, 5))
    lines = [
        ",".join([*(f"{value:.3f}" for value in row), f"c{label}"]) for row, label in zip(rows, labels, strict=True)
    ]
    (folder / "borrowed.py").write_text(BORROWED)
    (folder / "table.csv").write_text("\n".join(["x0,x1,x2,x3,x4,label", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def compared(table, tuplet):
    """A comparison in two processes, and what it printed."""
    words = [
        "compare",
        "--losses",
        f"supcon,triplet,{THEIRS}",
        "table.csv",
        *BUDGET,
        "--jobs",
        "2",
        "--json",
        "--trust",
    ]
    done = tuplet(*words, folder=table)
    return table / "comparisons" / "table", json.loads(done.stdout)


def plain(found):
    """A result without what clocks say."""
    return {**found, "entries": [{**one, "seconds": 0} for one in found["entries"]], "machine": "", "name": ""}


def test_every_loss_gets_the_same_trials_seeds_and_steps(compared):
    folder, printed = compared
    found = json.loads((folder / "comparison.json").read_text())
    assert {key: printed[key] for key in found} == found
    assert {one["name"] for one in found["entries"]} == {"supcon", "triplet", THEIRS}
    for one in found["entries"]:
        assert (len(one["trials"]), len(one["seeds"]), one["steps"]) == (2, 2, 20)
        chosen = max(one["trials"], key=lambda trial: trial["value"])
        assert one["settings"] == chosen["settings"]
        assert one["low"] <= one["value"] <= one["high"]
    assert (found["measure"], found["unit"], found["units"], found["queries"]) == ("map@r", "classes", 16, 96)
    assert len(found["pairs"]) == 3
    for pair in found["pairs"]:
        is_decided = pair["conclusion"] != "undecided"
        assert is_decided == (pair["corrected"] < 0.05)
        assert is_decided or pair["needs_units"] >= 16
        assert pair["corrected"] >= pair["p"]
        assert pair["difference"] >= 0


def test_settings_of_a_loss_of_another_library_are_searched_as_those_of_ours(compared):
    folder, _ = compared
    for entry, options in (("supcon", {"temperature"}), ("triplet", {"margin"}), (THEIRS, {"scale"})):
        trials = [json.loads((folder / "trials" / f"{entry}-{number}.json").read_text()) for number in range(2)]
        assert set(trials[0]["settings"]) == {"train.learning_rate", *(f"loss.{name}" for name in options)}
        assert trials[0]["settings"] != trials[1]["settings"]


def test_the_page_shows_every_loss_and_opens_without_a_script(compared):
    folder, printed = compared
    page = (folder / "comparison.html").read_text()
    assert "<script" not in page
    for one in printed["entries"]:
        assert f'data-entry="{one["name"]}"' in page
    assert all(pair["sentence"].replace("'", "&#39;") in page for pair in printed["pairs"])


def test_a_comparison_killed_in_the_middle_comes_to_the_same_result(table, compared, typist, tuplet):
    _, whole = compared
    words = ["compare", "--losses", f"supcon,triplet,{THEIRS}", "table.csv", *BUDGET, "--name", "killed", "--trust"]
    process = typist.start([*words, "--jobs", "1"], table)
    folder = table / "comparisons" / "killed"
    while len([*folder.glob("*s/*.json")]) < 4 and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*s/*.json")}
    assert 4 <= len(kept) < 12
    tuplet("compare", "--resume", "comparisons/killed", folder=table, code=4)  # names code, and nobody trusts it now
    done = tuplet("compare", "--resume", "comparisons/killed", "--trust", "--json", "--jobs", "1", folder=table)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = {key: value for key, value in json.loads(done.stdout).items() if key not in ("folder", "page")}
    assert plain(again) == plain({key: whole[key] for key in again})


def test_a_finished_comparison_trains_nothing_again_and_other_data_is_refused(table, compared, tuplet):
    folder, _ = compared
    (folder / "comparison.html").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*s/*.json")}
    tuplet("compare", "--resume", folder, "--trust", folder=table)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*s/*.json")} == before
    assert (folder / "comparison.html").exists()
    text = (table / "table.csv").read_text()
    (table / "table.csv").write_text(text.replace(",c3\n", ",c4\n", 1))
    try:
        assert "data-changed" in tuplet("compare", "--resume", folder, "--trust", folder=table, code=3).stderr
    finally:
        (table / "table.csv").write_text(text)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["table.csv"], 2, "--losses"),
        (["--losses", "supcon,triplet"], 2, "--losses"),
        (["--losses", "supcon", "table.csv"], 4, "nothing-to-compare"),
        (["--losses", "supcon,supcon", "table.csv"], 4, "nothing-to-compare"),
        (["--losses", "supcon,supcn", "table.csv"], 4, "bad-recipe"),
        (["--losses", "supcon,nowhere.Loss", "table.csv"], 4, "untrusted-code"),
        (["--losses", "supcon,nowhere.Loss", "table.csv", "--trust"], 4, "imported-loss"),
        (["--losses", "supcon,os.path.join", "table.csv", "--trust"], 4, "imported-loss"),
        (["--losses", "supcon,log_ratio", "table.csv"], 3, "missing-labels"),
        (["--losses", "supcon,triplet", "table.csv", "--set", "data.split.test=0.0"], 4, "no-test-examples"),
        (["--losses", "supcon,triplet", "table.csv", "--set", "data.split.validation=0.0"], 4, "best-by"),
        (["--losses", "supcon,triplet", "table.csv", "--steps", "5", "--minutes", "1"], 2, "--minutes"),
        (["--resume", "nowhere"], 3, "no-comparison"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(table, typist, words, code, said):
    before = sorted(path.name for path in table.glob("comparisons/*"))
    found = typist(["compare", *words], table)
    assert found.returncode == code, found.stderr
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert sorted(path.name for path in table.glob("comparisons/*")) == before


def test_recipes_that_differ_in_more_than_their_loss_are_refused(table, typist):
    shared = '[data]\nsource = "table.csv"\n[loss]\nname = "supcon"\n'
    for name, more in (("one", ""), ("two", "[model]\ndim = 16\n"), ("three", "[train]\nsteps = 7\n")):
        (table / f"{name}.toml").write_text(f'extends = "own-vectors"\n{shared}{more}')
    for other in ("two", "three"):
        found = typist(["compare", "one.toml", f"{other}.toml"], table)
        assert (found.returncode, "unequal-recipes" in found.stderr) == (4, True)


def test_a_budget_in_minutes_becomes_a_number_of_steps_for_each_loss(table, tuplet):
    words = [
        "--losses",
        "supcon,triplet",
        "table.csv",
        "--minutes",
        "0.01",
        "--trials",
        "1",
        "--seeds",
        "2",
        "--name",
        "timed",
    ]
    found = json.loads(tuplet("compare", *words, "--json", "--jobs", "1", folder=table).stdout)
    assert all(one["steps"] >= 1 for one in found["entries"])
    steps = {one["name"]: one["steps"] for one in found["entries"]}
    again = json.loads(tuplet("compare", "--resume", "comparisons/timed", "--json", folder=table).stdout)
    assert {one["name"]: one["steps"] for one in again["entries"]} == steps


GRADED = """
extends = "own-vectors"
[data]
source = "graded.csv"
[loss]
name = "log_ratio"
geometry = "{geometry}"
[batch]
name = "uniform"
batch_size = 32
[train]
augment = "none"
"""


def test_continuous_labels_are_compared_by_the_neighbours_of_each_example(table, tuplet):
    """A correlation over pairs chooses the step; it is no mean over examples, of which a sign could be flipped."""
    rows = np.random.default_rng(0).normal(size=(120, 3))
    lines = [",".join(f"{value:.3f}" for value in (*row, row[0] + row[1])) for row in rows]
    (table / "graded.csv").write_text("\n".join(["x0,x1,x2,target", *lines]) + "\n")
    for name, geometry in (("squared", "squared_euclidean"), ("plain", "euclidean")):
        (table / f"{name}.toml").write_text(GRADED.format(geometry=geometry))
    words = ["--steps", "10", "--trials", "1", "--seeds", "2", "--jobs", "1", "--json"]
    found = json.loads(tuplet("compare", "squared.toml", "plain.toml", *words, folder=table).stdout)
    assert (found["measure"], found["unit"], found["units"]) == ("ndcg@10", "examples", found["queries"])
    assert {one["name"] for one in found["entries"]} == {"squared", "plain"}
    assert {one["loss"] for one in found["entries"]} == {"log_ratio"}


def test_losses_of_classes_and_of_numbers_are_compared_by_one_measure_that_is_named(table, tuplet, typist):
    """On data that has both, each would be evaluated by what it learns from."""
    rows = np.random.default_rng(0).normal(size=(120, 3))
    lines = [",".join(f"{value:.3f}" for value in (*row, row[0])) + f",{int(row[0] > 0)}" for row in rows]
    budget = ["--steps", "10", "--trials", "1", "--seeds", "2", "--jobs", "1", "--set", "data.split.by=row"]
    (table / "both.csv").write_text("\n".join(["x0,x1,x2,target,label", *lines]) + "\n")
    words = ["compare", "--losses", "supcon,log_ratio", "both.csv", *budget, "--json"]
    refused = typist(words, table)
    assert (refused.returncode, "unequal-measures" in refused.stderr) == (4, True)
    assert "supcon would be evaluated by map@r (protocol all) and log_ratio by spearman" in refused.stderr
    assert not (table / "comparisons" / "both").exists()  # where it would have been
    for metric, measure in (("spearman", "ndcg@10"), ("map@r", "map@r")):
        changed = ["--set", f"evaluate.best_by={metric}", "--name", metric]
        found = json.loads(tuplet(*words, *changed, folder=table).stdout)
        assert (found["measure"], len(found["entries"]), len(found["pairs"])) == (measure, 2, 1)


def test_ctrl_c_keeps_what_is_finished(table, typist, tuplet):
    words = ["compare", "--losses", "supcon,triplet", "table.csv", *BUDGET, "--name", "stopped", "--jobs", "2"]
    process = typist.start(words, table)
    folder = table / "comparisons" / "stopped"
    while not [*folder.glob("*s/*.json")] and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "--resume" in said
    tuplet("compare", "--resume", "comparisons/stopped", "--jobs", "1", folder=table)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1400, "dark")])
def test_the_page_fits_in_a_browser(compared, browser, width, scheme):
    folder, printed = compared
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page, troubles = context.new_page(), []
    page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto((folder / "comparison.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("[data-entry]").count() == len(printed["entries"])
    assert page.locator("#curves figure").count() == len(printed["entries"])
    marks = page.locator(".matrix td.undecided, .matrix td.better, .matrix td.worse")
    assert marks.count() == 2 * len(printed["pairs"])
    context.close()
    assert troubles == []
