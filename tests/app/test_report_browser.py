"""The report in a real browser, without a network."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def visit(browser, run):
    """Open the report; what went wrong and what was asked of a network comes back with the page."""
    contexts = []

    def visit(width=1200, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page, troubles = context.new_page(), []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda asked: troubles.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
        page.set_default_timeout(120_000)  # a busy machine draws the map without a graphics card
        page.goto(f"file://{run / 'report.html'}")
        page.wait_for_selector("#chart-map .main-svg")
        return page, troubles

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1200, "dark")])
def test_the_page_fits_can_be_read_and_draws_everything_offline(visit, width, scheme):
    page, troubles = visit(width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("validation", "loss", "speed", "pairs"):
        assert page.locator(f"#chart-{name} .scatterlayer .trace").count() > 0
        assert page.locator(f"#chart-{name}").bounding_box()["width"] <= width
    assert troubles == []
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    for place in ("h1", ".lead", ".interval", "nav a", "th small", ".query li"):
        ink = luminance(page.evaluate("place => getComputedStyle(document.querySelector(place)).color", place))
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_charts_follow_the_theme(visit):
    page, _ = visit(scheme="light")
    colour = "document.querySelector('#chart-loss .xtick text').style.fill"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{colour} !== {light!r}")


def test_pointing_at_the_map_shows_the_example(visit):
    page, troubles = visit()
    page.locator("#chart-map").scroll_into_view_if_needed()
    place = page.evaluate("""() => {
        const plot = document.getElementById("chart-map"), { xaxis, yaxis } = plot._fullLayout;
        const frame = plot.getBoundingClientRect();
        return [frame.left + xaxis._offset + xaxis.l2p(map.x[7]), frame.top + yaxis._offset + yaxis.l2p(map.y[7])];
    }""")
    page.mouse.move(*place)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert tip.locator(".thumb").count() == 1
    assert "nearest neighbour" in tip.inner_text()
    assert troubles == []


def test_everything_works_by_keyboard(visit):
    page, _ = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the result"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#result"
    page.focus("#reproduce summary")
    page.keyboard.press("Enter")
    assert page.locator("#reproduce pre", has_text="[train]").is_visible()
    page.focus("#map-wrap")
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#found")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#found") != first
    assert page.locator("#tip").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.fill("#find-class", "<b>one & only</b>")
    assert "examples, ringed" in page.inner_text("#found")
