"""Two models on one query: the page of `tuplet serve RUN_A RUN_B`, and the endpoints of the second."""

import re

import pytest

from tuplet import index as indexes


@pytest.fixture(scope="module")
def both(run, workplace, tuplet, served):
    """The run, and beside it an index of a part of its pictures by an untrained model."""
    tuplet("train", "digits.toml", "--name", "other", "--steps", "2", "--set", "model.dim=16", folder=workplace)
    with served(run, workplace / "runs" / "other", folder=workplace) as found:
        yield found


def test_the_second_answers_as_it_would_alone(both, workplace, digit):
    path, name = digit
    index = indexes.open(workplace / "runs" / "other")
    expected = index.search(index.embedder.embed([path]), 5)
    form = (("picture", path.name, path.read_bytes()), ("top", 5))
    found = both.form("/api/beside/search", *form).json["results"][0]["hits"]
    assert [hit["id"] for hit in found] == list(expected.ids[0])
    assert [hit["score"] for hit in found] == pytest.approx(expected.scores[0].tolist(), abs=1e-4)
    assert both.ask("/" + found[0]["picture"]).headers["content-type"] == "image/webp"
    first, second = both.ask("/api/about").json, both.ask("/api/beside/about").json
    assert (first["name"], first["beside"], second["name"], second["dim"]) == ("digits", "other", "other", 16)
    document = both.ask("/api/openapi.json").json
    assert {"/api/search", "/api/beside/search", "/api/beside/verify"} <= document["paths"].keys()
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))
    assert both.ask("/api/beside/map").status == 404
    assert both.ask("/api/search", {"queries": [{"item": name}]}).status == 200


def test_three_are_too_many(run, workplace, tuplet):
    tuplet("serve", run, run, run, folder=workplace, code=2)


@pytest.mark.browser
def test_the_page_shows_both_side_by_side(both, browser, digit):
    page, troubles = browser.new_page(viewport={"width": 390, "height": 900}), []
    page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(both.address)
    page.wait_for_selector(".card")
    assert page.locator("#beside:not([hidden])").count() == 0
    path, _ = digit
    page.set_input_files("#file", path)
    page.wait_for_selector("#beside:not([hidden]) .card .score")
    form = (("picture", path.name, path.read_bytes()), ("top", 24))
    ids = []
    for grid, root in (("#grid", "/api"), ("#grid-beside", "/api/beside")):
        shown = page.eval_on_selector_all(f"{grid} .card", "cards => cards.map(card => card.dataset.id)")
        assert shown == [hit["id"] for hit in both.form(f"{root}/search", *form).json["results"][0]["hits"]]
        ids.append(set(shown))
    alone = page.eval_on_selector_all("#lists .card.alone", "cards => cards.map(card => card.dataset.id)")
    assert set(alone) == ids[0] ^ ids[1]
    assert page.inner_text("#beside-name") == "other"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#grid-beside .card > button").nth(1).click()
    page.wait_for_url(re.compile(r"\?item="))
    page.wait_for_selector("#beside:not([hidden]) .card .score")
    page.evaluate("document.getElementById('filters').open = true")  # closed on a narrow screen
    page.click("#clear")
    page.wait_for_selector("#beside", state="hidden")
    assert troubles == []
    page.close()
