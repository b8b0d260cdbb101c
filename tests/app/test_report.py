"""The report as a file: complete without a network, true to `evaluation.json`, safe with any class name."""

import io
import itertools
import json
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from tuplet.app.report.gallery import Gallery, read_gallery
from tuplet.app.report.map import choose_points, lay_out
from tuplet.app.report.neighbours import find_neighbours, most_confused, pick_twins, pick_typical, pick_worst
from tuplet.app.report.pictures import draw_sheet


class Page(HTMLParser):
    """Elements in order, and the text of cells, headings and scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(len(self.elements) - 1)
        self.texts.append("")

    def handle_endtag(self, tag):
        while self.open and self.elements[self.open.pop()][0] != tag:
            pass

    def handle_data(self, data):
        for place in self.open:
            self.texts[place] += data

    def all(self, tag):
        return [
            (attrs, text.strip()) for (name, attrs), text in zip(self.elements, self.texts, strict=True) if name == tag
        ]


@pytest.fixture(scope="module")
def text(run):
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_nothing_is_fetched(page, text):
    loading = [
        attrs.get(name, "") for _, attrs in page.elements for name in ("src", "href", "srcset", "data", "action")
    ]
    assert [link for link in loading if link and not link.startswith("#")] == []
    style = "".join(text for _, text in page.all("style"))
    assert "@import" not in style
    assert all(link.startswith('"data:') for link in re.findall(r"url\(([^)]{0,12})", style))
    (policy,) = (attrs["content"] for attrs, _ in page.all("meta") if attrs.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_the_script_of_the_charts_is_there_once_and_the_file_is_small(text):
    assert text.count("plotly.js v") == 1
    assert len(text.encode()) < 9_000_000


def test_headings_descend_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in itertools.pairwise(levels))


def test_every_link_leads_to_a_section_and_every_picture_has_words(page):
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {attrs["href"][1:] for attrs, _ in page.all("a")} <= ids
    pictures = [attrs for _, attrs in page.elements if attrs.get("role") == "img"]
    assert len(pictures) > 20
    assert all(attrs["aria-label"] for attrs in pictures)


def test_numbers_are_those_of_the_evaluation(page, run):
    protocols = json.loads((run / "evaluation.json").read_text())["protocols"]
    cells = [(attrs, text) for attrs, text in page.all("td") if "data-metric" in attrs]
    shown = {(attrs["data-protocol"], attrs["data-of"], attrs["data-metric"]) for attrs, _ in cells}
    expected = {
        (name, of, key)
        for name, evaluated in protocols.items()
        if name != "verification"  # has a table of thresholds of its own
        for of in ("raw", "model")
        for key in evaluated.get(of, {"values": {}})["values"]
    }
    assert shown == expected
    for attrs, text in cells:
        evaluated, key = protocols[attrs["data-protocol"]][attrs["data-of"]], attrs["data-metric"]
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d{3}", text)]
        ends = [evaluated[end][key] for end in ("values", "lower", "upper") if key in evaluated[end]]
        assert numbers == pytest.approx(ends, abs=5.1e-4)


def test_the_first_sentence_is_the_result(page, run):
    evaluated = json.loads((run / "evaluation.json").read_text())["protocols"]["all"]
    ((_, heading),) = page.all("h1")
    assert f"{evaluated['model']['values']['recall@1']:.3f}" in heading
    assert f"{evaluated['raw']['values']['recall@1']:.3f}" in heading


def test_names_of_classes_are_text_and_never_markup(text, page):
    assert "<b>one" not in text
    assert any("<b>one & only</b>" in words for _, words in page.all("li"))


def test_figures_and_map_hold_what_they_say(page, run):
    scripts = {attrs.get("id"): text for attrs, text in page.all("script")}
    charts = {chart["name"]: chart for chart in json.loads(scripts["charts"])}
    assert {"validation", "loss", "speed", "pairs", "map", "norms"} <= set(charts)
    points = json.loads(scripts["map-data"])
    plotted = sorted(position for trace in charts["map"]["data"] for position in trace.get("customdata", []))
    assert plotted == list(range(len(points["x"])))
    items = [json.loads(line) for line in (run / "gallery" / "items.jsonl").read_text().splitlines()]
    assert len(points["ids"]) == sum(item["split"] == "test" for item in items)  # the others are there to be found
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    assert charts["loss"]["data"][0]["y"] == losses


def test_recipe_and_environment_are_reported_in_full(page, run):
    (recipe,) = (words for _, words in page.all("pre") if "[train]" in words)
    assert recipe == (run / "recipe.toml").read_text().strip()
    printed = [words for _, words in page.all("dd")]
    assert all(str(value) in printed for value in json.loads((run / "environment.json").read_text()).values())


def test_a_run_that_was_moved_is_reported_again_to_the_same_words(run, tmp_path, tuplet, page):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in run.iterdir():
        if path.name not in ("checkpoints", "report.html"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, moved / path.name)
    assert tuplet("report", moved, folder=tmp_path).stdout.strip() == str(moved / "report.html")
    again = Page((moved / "report.html").read_text(encoding="utf-8"))
    for tag in ("h1", "td", "li"):
        assert [words for _, words in again.all(tag)] == [words for _, words in page.all(tag)]


def clusters(sizes, dim=8, spread=0.05, seed=0):
    """A gallery of classes around random directions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    centres = torch.randn(len(sizes), dim, generator=generator)
    rows = centres[labels] + spread * torch.randn(len(labels), dim, generator=generator)
    names = [f"class {number}" for number in range(len(sizes))]
    return Gallery(rows, "cosine", [f"item {row}" for row in range(len(labels))], labels.numpy(), names)


def test_neighbours_leave_out_the_query_and_classes_of_one():
    gallery = clusters([4, 1, 5])
    found = find_neighbours(gallery, seed=0)
    assert found.queries.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not (found.positions == found.queries[:, None]).any()
    assert found.is_right.all()
    assert pick_worst(found, 4) == []
    assert most_confused(found, 4) == []
    assert len({int(found.labels[found.queries[row]]) for row in pick_typical(found, 2, seed=0)}) == 2


def test_mistakes_are_found_counted_and_ordered():
    gallery = clusters([6, 6, 6], spread=0.01)
    rows = gallery.embeddings.clone()
    rows[0] = rows[6] * 1.5  # an example of class 0 that equals one of class 1
    rows[12] = rows[7] + 0.001  # and one of class 2, a little less alike
    gallery = Gallery(rows, "cosine", gallery.ids, gallery.labels, gallery.names)
    found = find_neighbours(gallery, seed=0)
    wrong = set(found.queries[~found.is_right].tolist())
    assert wrong == {0, 6, 7, 12}
    first = most_confused(found, 5)[0]
    assert (first.classes, first.mistakes, first.queries, first.pictures) == ((0, 1), 2, 12, (0, 6))
    twins = [int(found.queries[row]) for row in pick_twins(found, 5)]
    assert twins[0] in (0, 6)
    assert set(found.queries[pick_worst(found, 1)].tolist()) <= {0, 12}  # all five neighbours are wrong


def test_distances_are_read_the_other_way_round():
    near = clusters([5, 5], spread=0.01)
    rows = near.embeddings.clone()
    rows[0], rows[5] = rows[6] + 0.2, rows[1] + 0.01
    gallery = Gallery(rows, "euclidean", near.ids, near.labels, near.names)
    found = find_neighbours(gallery, seed=0)
    twin = pick_twins(found, 1)[0]
    assert found.scores[twin, 0] == found.scores[~found.is_right, 0].min()


def test_a_map_shows_whole_classes_and_keeps_neighbours_together():
    gallery = clusters([40] * 100, dim=16)
    found = find_neighbours(gallery, seed=3)
    rows = choose_points(found, seed=3)
    shown = gallery.labels[found.queries[rows]]
    assert 2900 < len(rows) <= 3000
    assert set(np.bincount(shown)[np.unique(shown)]) == {40}
    part = rows[:400]
    places = lay_out(gallery, found.queries[part], seed=3)
    assert np.abs(places).max() == pytest.approx(100)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (shown[:400][apart.argmin(1)] == shown[:400]).mean() > 0.95


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 16, 12), (3, 40, 64)])
def test_a_tile_shows_the_picture_of_its_position(channels, height, width):
    shades = np.arange(0, 240, 24, dtype=np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (10, channels, height, width))
    sheet = draw_sheet(images, [7, 2, 9, 4, 0], edge=32, budget=100_000)
    picture = np.asarray(Image.open(io.BytesIO(b64decode(sheet.uri.partition(",")[2]))).convert("L"), dtype=int)
    tall, wide = picture.shape[0] // sheet.rows, picture.shape[1] // sheet.columns
    assert max(tall, wide) == min(32, max(height, width))
    assert wide / tall == pytest.approx(sheet.aspect)
    for position in sheet.tiles:
        column, row = sheet.place(position)
        assert picture[row * tall + tall // 2, column * wide + wide // 2] == pytest.approx(shades[position], abs=6)


def test_a_sheet_keeps_to_its_budget():
    noise = torch.randint(256, (100, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    sizes = [len(draw_sheet(noise, range(100), edge=32, budget=budget).uri) * 3 / 4 for budget in (10**6, 100_000)]
    assert sizes[1] < 100_000 < sizes[0]


def test_the_gallery_of_a_run_has_pictures_and_classes(run):
    gallery = read_gallery(run)
    assert gallery.pictures is not None
    assert gallery.pictures.shape[1:] == (1, 16, 16)
    assert len(gallery.pictures) == len(gallery.ids) == len(gallery.labels) == len(gallery.embeddings)
    assert len(gallery.names) == 10
    raw = gallery.as_pictures()
    torch.testing.assert_close(raw.embeddings.mean(0), torch.zeros(256), atol=1e-3, rtol=0)
