"""`tuplet audit` finds what was planted, and `tuplet train --exclude` leaves it out."""

import csv
import json
import shutil

import pytest

from tuplet.recipes.data import read_excluded


@pytest.fixture(scope="module")
def spoilt(workplace, tuplet, tmp_path_factory):
    """A run on digits of which some lie in the wrong folder and one lies there twice."""
    folder = tmp_path_factory.mktemp("spoilt")
    shutil.copytree(workplace / "digits", folder / "digits")
    wrong = []
    for label, other in (("3", "0"), ("4", "7"), ("6", "2")):
        path = sorted((folder / "digits" / label).iterdir())[5]
        path.rename(folder / "digits" / other / f"moved-{path.name}")
        wrong.append(f"{other}/moved-{path.name}")
    first = min((folder / "digits" / "5").iterdir())
    shutil.copy(first, folder / "digits" / "5" / "copy.png")
    shutil.copy(workplace / "digits.toml", folder / "digits.toml")
    tuplet("train", "digits.toml", "--set", "train.steps=120", folder=folder)
    return folder, wrong, ["5/copy.png", f"5/{first.name}"]


@pytest.mark.slow
@pytest.mark.parametrize("folds", [0, 2])
def test_wrong_labels_and_copies_are_found_and_left_out(spoilt, tuplet, folds):
    folder, wrong, copies = spoilt
    printed = json.loads(tuplet("audit", "runs/digits", "--folds", folds, "--json", folder=folder).stdout)
    with (folder / "runs/digits/audit/findings.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = [row["id"] for row in rows if row["finding"] == "label"]
    assert set(wrong) <= set(labels[:20])
    assert {row["id"] for row in rows if row["finding"] == "duplicate"} >= set(copies)
    assert printed["label"] == len(labels)
    page = (folder / "runs/digits/audit/findings.html").read_text()
    assert page.count('type="checkbox"') == min(len(rows), 600)
    assert "<b>one" not in page
    left_out = ["--exclude", "runs/digits/audit/findings.csv"]
    tuplet("train", "digits.toml", "--name", f"clean{folds}", "--steps", "2", *left_out, folder=folder)
    marked = sum(row["exclude"] == "yes" for row in rows)
    counts = []
    for run in ("digits", f"clean{folds}"):
        splits = json.loads((folder / "runs" / run / "evaluation.json").read_text())["data"]["splits"]
        counts.append(sum(part["examples"] for part in splits.values()))
    assert counts[0] - counts[1] == marked


def test_names_that_the_data_lacks_are_counted_whatever_the_table_is_called(spoilt, tuplet):
    folder, _, copies = spoilt
    table = folder / 'my "marks" é.csv'
    table.write_text(f"id,exclude\n{copies[0]},yes\n{copies[1]},\nnowhere.png,yes\n")
    said = tuplet("train", "digits.toml", "--name", "marked", "--steps", "2", "--exclude", table, folder=folder).stderr
    [note] = [line for line in said.splitlines() if table.name in line]
    assert note.split()[0] == "1"
    assert "1 name" in note


@pytest.mark.parametrize(("between", "mark"), [(",", ""), (";", "\ufeff"), ("\t", "\ufeff")])
def test_marks_that_a_spreadsheet_has_saved_are_read(tmp_path, between, mark):
    rows = [["id", "finding", "exclude"], ["a/1, 2.png", "label", "yes"], ["b.png", "label", ""]]
    with (tmp_path / "marks.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        csv.writer(file, delimiter=between).writerows(rows)
    assert read_excluded(tmp_path / "marks.csv") == {"a/1, 2.png"}


def test_a_table_that_is_none_is_refused(spoilt, tuplet):
    folder, _, _ = spoilt
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    (folder / "header.csv").write_text("a,b\n")
    for name in ("notes.csv", "nowhere.csv", "header.csv"):
        done = tuplet("train", "digits.toml", "--name", "x", "--exclude", name, folder=folder, code=3)
        assert "exclude-table" in done.stderr


@pytest.mark.browser
def test_marks_are_changed_on_the_page_and_saved(spoilt, tuplet, chromium):
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  not installed where these tests are skipped

    folder, _, _ = spoilt
    tuplet("audit", "runs/digits", "--folds", 0, folder=folder)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page, troubles = browser.new_page(viewport={"width": 390, "height": 800}), []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.goto((folder / "runs/digits/audit/findings.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        before = page.locator("#count").inner_text()
        page.locator("input[type=checkbox]:not(:checked)").last.focus()
        page.keyboard.press("Space")
        with page.expect_download() as caught:
            page.click("#save")
        text = caught.value.path().read_text()
        browser.close()
    saved = [row["id"] for row in csv.DictReader(text.splitlines()) if row["exclude"] == "yes"]
    assert len(saved) == int(before.split()[0]) + 1
    assert troubles == []


def test_what_is_no_run_is_said(tuplet, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        assert "no-run" in tuplet("audit", name, folder=tmp_path, code=3).stderr


def test_classes_of_a_few_examples_are_dealt_out_without_any_for_validation(workplace, tuplet, tmp_path):
    for label in "023456":
        (tmp_path / "digits" / label).mkdir(parents=True)
        for path in sorted((workplace / "digits" / label).iterdir())[:4]:
            shutil.copy(path, tmp_path / "digits" / label)
    shutil.copy(workplace / "digits.toml", tmp_path)
    few = ["--set", "batch.classes_per_batch=4", "--set", "data.split.validation=0.0", "--set", "data.split.test=0.5"]
    tuplet("train", "digits.toml", "--steps", "3", *few, folder=tmp_path)
    assert json.loads(tuplet("audit", "runs/digits", "--json", folder=tmp_path).stdout)["duplicate"] == 0


def test_an_index_and_another_collection_are_audited_by_their_model(spoilt, tuplet):
    folder, wrong, copies = spoilt
    built = ("index", "build", "spoilt.index", "--model", "runs/digits", "digits")
    tuplet(*built, folder=folder)
    for words, place in ((["spoilt.index"], "spoilt.index.audit"), (["runs/digits", "digits"], "digits.audit")):
        printed = json.loads(tuplet("audit", *words, "--json", folder=folder).stdout)
        assert printed["folder"] == place
        with (folder / place / "findings.csv").open() as file:
            rows = list(csv.DictReader(file))
        labels = [row["id"] for row in rows if row["finding"] == "label"]
        assert set(wrong) <= set(labels[:20])
        assert {row["id"] for row in rows if row["finding"] == "duplicate"} == set(copies)
        assert (folder / place / "findings.html").is_file()
    tuplet("audit", "spoilt.index", "--folds", "2", folder=folder, code=2)


def test_a_collection_without_classes_is_audited_for_copies(spoilt, tuplet):
    folder, _, _ = spoilt
    bare = folder / "bare"
    bare.mkdir()
    for number, path in enumerate(
        [*sorted((folder / "digits" / "3").iterdir())[:12], folder / "digits/5/copy.png"] * 2
    ):
        shutil.copy(path, bare / f"{number}.png")
    printed = json.loads(tuplet("audit", "runs/digits", "bare", "--json", folder=folder).stdout)
    assert (printed["duplicate"], printed["label"]) == (26, 0)
