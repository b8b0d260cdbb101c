"""Tables from the command line: what is said of their columns, and that a model finds them again in others."""

import csv
import json

import numpy as np
import pytest

QUICK = [
    *("--set", "train.steps=6", "--set", "train.validate_every=3", "--set", "evaluate.bootstrap=20"),
    *("--set", "model.dim=8", "--set", "data.split.by=row", "--name", "run"),
]


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path.name


def numbers(folder, label):
    """Numbers of four classes, whose label, group and name are called as few tables call them."""
    random = np.random.default_rng(0)
    classes = np.arange(120) % 4
    values = (3 * random.normal(size=(4, 3))[classes] + random.normal(size=(120, 3))).round(4)
    header = ["length", "width", "height", label, "site", "sample_id"]
    rows = [[*map(str, row), str(7 + one), str(k % 5), str(k)] for k, (row, one) in enumerate(zip(values, classes))]  # noqa: B905
    return header, rows


def shuffled(header, rows):
    """The same table with its columns in another order, and one that nobody knows."""
    order = [5, 2, 3, 0, 4, 1]
    return ["remark", *(header[at] for at in order)], [["?", *(row[at] for at in order)] for row in rows]


def lines(said):
    return [json.loads(line) for line in said.stdout.splitlines()]


def indexed(folder):
    return [json.loads(line)["id"] for line in (folder / "gallery" / "items.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("label", ["cultivar", "Class", "y"])
def test_rows_of_the_training_table_find_themselves_in_any_order_of_columns(typed, tmp_path, label):
    header, rows = numbers(tmp_path, label)
    write(tmp_path / "train.csv", header, rows)
    write(tmp_path / "other.csv", *shuffled(header, rows))
    asked = typed("train", "train.csv", *QUICK, code=3)
    assert f"data.columns.label='{label}'" in asked.stderr
    named = ["--set", f"data.columns.label={label}", "--set", "data.columns.group=site"]
    said = typed("train", "train.csv", *QUICK, *named)
    printed = next(line for line in said.stderr.splitlines() if line.startswith("train.csv: 120 rows"))
    assert f"input: length, width, height; label: {label}; group: site; id: sample_id; not read: none" in printed
    assert "--set data.columns.label=NAME" in printed
    known = indexed(tmp_path / "runs" / "run")
    assert len(known) >= 30
    for table in ("train.csv", "other.csv"):
        said = typed("search", "runs/run", table, "-k", 1, "--json")
        found = {row["query"]: row["id"] for row in lines(said)}
        assert len(found) == 120
        assert [found[name] for name in known] == known
    assert "not read: remark" in said.stderr
    evaluations = [
        json.loads(typed("evaluate", "runs/run", "--data", table, "--json").stdout)["protocols"]
        for table in ("train.csv", "other.csv")
    ]
    assert evaluations[0] == evaluations[1]
    embedded = [
        [row["embedding"] for row in lines(typed("embed", "runs/run", table, "--json"))]
        for table in ("train.csv", "other.csv")
    ]
    assert embedded[0] == embedded[1]


def test_a_column_that_a_model_needs_and_a_table_lacks_is_named(typed, tmp_path):
    header, rows = numbers(tmp_path, "label")
    write(tmp_path / "train.csv", header, rows)
    typed("train", "train.csv", *QUICK)
    write(tmp_path / "short.csv", header[1:], [row[1:] for row in rows])
    for command in (["search", "runs/run", "short.csv"], ["embed", "runs/run", "short.csv", "--json"]):
        assert "'length'" in typed(*command, code=3).stderr
    assert "'length'" in typed("evaluate", "runs/run", "--data", "short.csv", code=3).stderr
    order = [2, 4, 1, 0]
    write(tmp_path / "bare.csv", [header[at] for at in order], [[row[at] for at in order] for row in rows])
    assert len(lines(typed("search", "runs/run", "bare.csv", "-k", 1, "--json"))) == 120


def test_both_sides_of_pairs_are_found_by_the_names_of_training(typed, tmp_path):
    rows = [[f"question number {k}", f"reply number {k}", k / 7] for k in range(60)]
    write(tmp_path / "pairs.csv", ["ask", "reply", "score"], rows)
    named = ["--set", "data.columns.text=ask", "--set", "data.columns.pair=reply"]
    said = typed("train", "pairs.csv", *QUICK, *named)
    assert "text: ask; pair: reply" in said.stderr
    assert "not read: score" in said.stderr
    write(tmp_path / "other.csv", ["score", "reply", "ask"], [row[::-1] for row in rows])
    write(tmp_path / "plain.csv", ["text"], [row[1:2] for row in rows])
    sides = [
        [row["embedding"] for row in lines(typed("embed", "runs/run", table, "--side", side, "--json"))]
        for table, side in (("pairs.csv", "query"), ("other.csv", "query"), ("pairs.csv", "partner"))
    ]
    assert sides[0] == sides[1]
    assert sides[0] != sides[2]
    assert sides[2] == [
        row["embedding"] for row in lines(typed("embed", "runs/run", *(row[1] for row in rows), "--json"))
    ]


def test_every_command_says_what_it_reads(typed, tmp_path):
    header, rows = numbers(tmp_path, "label")
    table = write(tmp_path / "t.csv", header, rows)
    printed = "t.csv: 120 rows; input: length, width, height, site; label: label; group: none; id: sample_id"
    assert printed in typed("init", table).stderr
    assert printed in typed("plan", "t.toml", *QUICK[:-2]).stderr
    planned = json.loads(typed("plan", table, *QUICK[:-2], "--json").stdout)
    assert planned["source"]["columns"]["unread"] == []


def test_paths_and_recipes_that_cannot_be_are_refused(typed, tmp_path):
    (tmp_path / "nul.toml").write_text('extends = "own-vectors"\n[data]\nsource = "a\\u0000b.csv"\n')
    assert typed("train", "nul.toml", code=3).stderr
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5_000 + "]" * 5_000)
    assert typed("train", "deep.toml", code=4).stderr
    assert typed("train", "own-vectors", "--set", "a=" + "[" * 5_000, code=4).stderr


def test_queries_ask_the_gallery_of_a_table_with_roles(typed, tmp_path):
    random = np.random.default_rng(0)
    classes = np.arange(160) % 16
    values = 3 * random.normal(size=(16, 3))[classes] + random.normal(size=(160, 3))
    # the last eight classes are evaluated: two of ten rows ask
    roles = ["" if one < 8 else "query" if at % 5 == 0 else "gallery" for at, one in enumerate(classes)]
    header = ["x0", "x1", "x2", "label", "role", "group"]
    rows = [[*row, f"c{one}", role, at % 3] for at, (row, one, role) in enumerate(zip(values, classes, roles))]  # noqa: B905
    write(tmp_path / "people.csv", header, rows)
    quick = [*QUICK, "--set", "data.split.by=class"]
    typed("train", "people.csv", *quick)
    conclusion = json.loads((tmp_path / "runs" / "run" / "evaluation.json").read_text())
    assert conclusion["main"] == {"protocol": "reid", "measure": "recall@1"}
    printed = conclusion["protocols"]["reid"]["model"]
    asking, answering = roles.count("query"), roles.count("gallery")
    assert printed["counts"]["n_queries"] + printed["counts"]["n_skipped"] == asking
    assert printed["counts"]["n_gallery"] == answering
    assert printed["settings"]["junk"] == "class_and_group"
    again = json.loads(typed("evaluate", "runs/run", "--data", "people.csv", "--json").stdout)
    assert again["main"] == conclusion["main"]
    assert again["protocols"]["reid"]["model"]["values"] == pytest.approx(printed["values"])
    # who asks is a part of what a run was given
    rows[15][4] = "gallery" if rows[15][4] == "query" else "query"
    write(tmp_path / "people.csv", header, rows)
    refused = typed("train", "--resume", "runs/run", "--steps", 12, code=3)
    assert "another role" in refused.stderr
