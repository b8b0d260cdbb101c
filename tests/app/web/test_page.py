"""The page in a real browser: search, pass, filter, map; by keyboard, in the dark, on a phone."""

import csv
import re

import pytest

from tuplet.recipes.data import read_excluded

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def visit(browser, server):
    """Open the page; what went wrong, and what was asked of other hosts, comes back with it."""
    contexts = []

    def visit(path="/", width=1400, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page, troubles = context.new_page(), []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.on(
            "request",
            lambda asked: troubles.append(asked.url) if not asked.url.startswith((server.address, "blob:")) else None,
        )
        page.goto(server.address + path)
        page.wait_for_selector(".card")
        return page, troubles

    yield visit
    for context in contexts:
        context.close()


def names(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


def searched(page, heading="Nearest neighbours"):
    """Wait for the results."""
    page.wait_for_function(
        "heading => document.getElementById('heading').textContent === heading "
        "&& !document.getElementById('grid').hasAttribute('aria-busy')",
        arg=heading,
    )
    return names(page)


def test_search_by_upload_shows_what_the_api_finds_and_a_click_steps_on(visit, server, digit):
    page, troubles = visit()
    path, name = digit
    page.set_input_files("#file", path)
    found = searched(page)
    answer = server.form("/api/search", ("picture", path.name, path.read_bytes()), ("top", 24)).json
    hits = answer["results"][0]["hits"]
    assert found == [hit["id"] for hit in hits]
    scores = page.eval_on_selector_all(".card .score", "all => all.map(one => Number(one.textContent))")
    assert scores == pytest.approx([hit["score"] for hit in hits], abs=1e-3)
    assert page.locator(".card.same").count() == sum(hit["same"] for hit in hits)
    assert found[0] == name
    page.click(f'.card[data-id="{found[1]}"] > button')
    page.wait_for_url(re.compile(r"\?item="))
    assert searched(page)[0] == found[1]
    assert page.inner_text("#query code") == found[1]
    page.go_back()
    page.wait_for_function("name => document.querySelector('#query code')?.textContent === name", arg=path.name)
    assert searched(page) == found
    assert troubles == []


def test_a_line_marks_the_threshold(visit, server, digit):
    page, _ = visit(f"/?item={digit[1]}")
    searched(page)
    while page.locator(".rule").count() == 0:
        before = page.locator(".card").count()
        page.click("#more")
        page.wait_for_function("before => document.querySelectorAll('.card').length > before", arg=before)
    is_same = page.eval_on_selector_all(
        "#grid > li", "all => all.map(one => one.matches('.rule') ? null : one.matches('.same'))"
    )
    at = is_same.index(None)
    assert is_same[:at] == [True] * at
    assert is_same[at + 1 :] == [False] * (len(is_same) - at - 1)


def test_filters_leave_what_they_say_and_a_wrong_one_says_why(visit):
    page, troubles = visit()
    page.select_option("#column-label", "3")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card')].every(one => one.dataset.id.startsWith('3/'))"
    )
    page.fill("#where", "split = 'test'")
    page.press("#where", "Enter")
    page.wait_for_function("() => [...document.querySelectorAll('.extra')].every(one => one.textContent === 'test')")
    assert troubles == []
    page.fill("#where", "nonsense = 1")
    page.press("#where", "Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "unknown-column" in page.inner_text("#problem code")
    page.click("#clear")
    page.wait_for_selector("#problem", state="hidden")


def test_names_of_classes_and_files_are_text_and_nothing_else(visit):
    page, _ = visit()
    page.select_option("#column-label", "<b>one & only</b>")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.caption b')].every(one => one.textContent.includes('&'))"
    )
    assert page.locator(".card b b, .card .file b, option b").count() == 0
    assert page.locator(".file span").first.inner_text() == names(page)[0]


def test_a_name_is_copied(visit, server):
    page, _ = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.address)
    page.locator(".file button").nth(2).click()
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == names(page)[2]


def test_marks_are_saved_as_a_table_that_training_reads(visit, digit, tmp_path):
    page, troubles = visit(f"/?item={digit[1]}")
    found = searched(page)
    page.click("#marking")
    page.select_option(f'[data-id="{found[1]}"] .mark', "duplicate")
    page.select_option(f'[data-id="{found[2]}"] .mark', "label")
    page.select_option(f'[data-id="{found[3]}"] .mark', "right")
    page.reload()
    page.wait_for_selector("#save-marks:not([hidden])")
    with page.expect_download() as saved:
        page.click("#save-marks")
    saved.value.save_as(tmp_path / "marks.csv")
    with (tmp_path / "marks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["finding"], row["other"], row["exclude"]) for row in rows] == [
        (found[1], "duplicate", digit[1], "yes"),
        (found[2], "label", "", "yes"),
        (found[3], "right", "", ""),
    ]
    assert read_excluded(tmp_path / "marks.csv") == set(found[1:3])
    assert troubles == []


def test_everything_works_by_keyboard(visit, digit):
    page, troubles = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#item")
    page.keyboard.type(digit[1][:6])
    page.wait_for_selector("#items:not([hidden]) li")
    page.keyboard.press("ArrowDown")
    chosen = page.inner_text('#items [aria-selected="true"]').partition(" · ")[0]
    page.keyboard.press("Enter")
    found = searched(page)
    assert found[0] == chosen
    page.locator(".card > button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function("name => document.querySelector('#query code').textContent === name", arg=found[2])
    assert searched(page)[0] == found[2]
    assert page.evaluate("document.activeElement.closest('.card').dataset.id") == found[2]
    page.wait_for_selector("#plane:not([hidden])", timeout=120_000)
    page.focus("#points")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#tip:not([hidden])")
    pointed = page.inner_text("#tip span")
    page.keyboard.press("Enter")
    page.wait_for_function("name => document.querySelector('#query code').textContent === name", arg=pointed)
    assert troubles == []


def test_the_lasso_lists_the_points_in_it(visit):
    page, troubles = visit()
    page.wait_for_selector("#plane:not([hidden])", timeout=120_000)
    page.locator("#points").scroll_into_view_if_needed()
    page.click("#lasso")
    box = page.locator("#points").bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    searched(page, "Items of the lasso")
    assert page.inner_text("#status").startswith("400 items")
    assert troubles == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (390, "light"), (1400, "dark")])
def test_the_page_fits_and_can_be_read(visit, width, scheme, digit):
    page, troubles = visit(f"/?item={digit[1]}", width=width, scheme=scheme)
    searched(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    for place in (".caption b", ".score", ".file", ".extra", "#status", ".threshold", ".drop p", "label"):
        ink = luminance(page.evaluate("place => getComputedStyle(document.querySelector(place)).color", place))
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, place
    small = page.eval_on_selector_all(
        "button",
        "all => all.filter(one => one.offsetHeight && Math.min(one.offsetWidth, one.offsetHeight) < 24).length",
    )
    assert small == 0
    assert troubles == []


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_asks_for_the_token_once(browser, served, run, tmp_path):
    with served(run, "--token-file", tmp_path / "token", folder=tmp_path) as server:
        page = browser.new_page()
        page.goto(server.address)
        page.wait_for_selector("#login[open]")
        page.fill("#token", "wrong" * 5)
        page.click("#token-form button")
        page.wait_for_function("() => document.getElementById('login-problem').textContent !== ''")
        page.fill("#token", (tmp_path / "token").read_text().strip())
        page.click("#token-form button")
        page.wait_for_selector(".card img")
        page.reload()
        page.wait_for_selector(".card img")
        page.close()
