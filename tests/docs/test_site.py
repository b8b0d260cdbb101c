"""The site is read on a phone, from a folder, without network and in both palettes."""

import pytest

pytestmark = pytest.mark.browser
WIDTH = 390
DEFECTS = r"""(width) => {
  const defects = [];
  const seen = new Set();
  const article = document.querySelector("article");
  if (document.documentElement.scrollWidth > width) defects.push("scrolls sideways");
  for (const { id } of document.querySelectorAll("[id]")) {
    if (seen.has(id)) defects.push("id twice: " + id);
    seen.add(id);
  }
  let level = 0;
  for (const heading of article.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    if (+heading.tagName[1] > level + 1) defects.push("level left out: " + heading.textContent);
    level = +heading.tagName[1];
  }
  for (const image of article.querySelectorAll("img")) {
    if (image.complete && !image.naturalWidth) defects.push("not loaded: " + image.src);
    if (!image.alt) defects.push("without words: " + image.src);
  }
  const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const place = text.parentElement;
    if (!text.data.trim() || !place.checkVisibility()) continue;
    if (!place.closest("pre, code, math") && /\n(- |\* |\| |#+ )|\\[a-z]{2}|\$[^ $]+\$|\{\{/.test(text.data)) {
      defects.push("not rendered: " + text.data.trim().slice(0, 60));
    }
    let size = parseFloat(getComputedStyle(place).fontSize);
    if (place.closest("svg")) size *= place.closest("svg").getScreenCTM().a;
    if (size < 11 && !place.closest("math, sub, sup, .linenodiv")) defects.push(`${size} px: ` + text.data.trim());
  }
  return defects.slice(0, 9);
}"""


@pytest.fixture(scope="module")
def phone(browser):
    """A narrow page; what it asks of other hosts, and its errors, are kept."""
    context = browser.new_context(viewport={"width": WIDTH, "height": 844})
    page = context.new_page()
    page.wrong = []

    def asked(request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            page.wrong.append(request.url)

    def failed(error) -> None:
        page.wrong.append(str(error))

    page.on("request", asked)

    def missed(request) -> None:
        if "ABORTED" not in (request.failure or ""):  # by the next page
            page.wrong.append(request.url)

    page.on("requestfailed", missed)
    page.on("pageerror", failed)
    yield page
    context.close()


@pytest.mark.slow
def test_no_page_is_wider_than_a_phone_and_none_needs_a_network(phone, site):
    found = {}
    for place in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # that one is for servers
        phone.goto(place.as_uri())
        defects = phone.evaluate(DEFECTS, WIDTH)
        if defects:
            found[str(place.relative_to(site))] = defects
    assert found == {}
    assert phone.wrong == []


def test_wide_figures_and_tables_of_sentences_are_laid_out_anew_on_a_phone_alone(browser, site):
    page = browser.new_page(viewport={"width": WIDTH, "height": 844})
    page.goto((site / "losses" / "adaface.html").as_uri())
    figure = page.locator("picture img")
    figure.scroll_into_view_if_needed()
    assert figure.evaluate("(image) => image.currentSrc").endswith("heads.tall.svg#adaface")
    assert figure.evaluate("(image) => image.height > image.width && image.naturalWidth > 0")
    page.goto((site / "course" / "claims.html").as_uri())
    cell = page.locator("td[data-label]").first
    label = "(cell) => getComputedStyle(cell, '::before').content"
    assert cell.evaluate(label) == '"claim: "'
    assert page.locator("thead").is_hidden()
    page.set_viewport_size({"width": 1400, "height": 900})
    assert cell.evaluate(label) == "none"
    assert page.locator("thead").is_visible()
    page.goto((site / "losses" / "adaface.html").as_uri())
    assert page.locator("picture img").evaluate("(image) => image.currentSrc").endswith("heads.svg#adaface")
    page.close()


def test_the_curve_of_a_loss_stands_out_from_the_others(browser, site):
    """By the name behind the address of the drawing, in both forms."""
    page = browser.new_page()
    for name in ("heads.svg", "heads.tall.svg"):
        page.goto(f"{(site / 'images' / 'losses' / name).as_uri()}#adaface")
        opacity = (
            "(names) => document.querySelectorAll(names).values().map((g) => getComputedStyle(g).opacity).toArray()"
        )
        assert set(page.evaluate(opacity, "[id^=of-adaface-]")) == {"1"}
        assert max(page.evaluate(opacity, "[id^=of-]:not([id^=of-adaface-])")) < "0.5"
    page.close()


def test_search_finds_a_page_where_the_site_is_opened_from_a_folder(browser, site):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.get_by_role("textbox", name="Search").click()
    page.keyboard.type("semihard")
    results = page.locator(".md-search-result__link")
    results.first.wait_for()
    assert any("losses/triplet.html" in (link.get_attribute("href") or "") for link in results.all())
    page.close()


def test_figures_follow_the_palette_that_the_reader_chose(browser, site):
    """Also where the system prefers the other one."""
    page = browser.new_page(color_scheme="light")
    page.goto((site / "losses" / "npair.html").as_uri())
    image = page.locator("img[src$='npair.svg']")
    image.scroll_into_view_if_needed()
    light = image.screenshot()
    page.locator("label[for=__palette_1]").first.click()
    assert page.evaluate("getComputedStyle(document.querySelector('.md-content img')).colorScheme") == "dark"
    assert image.screenshot() != light
    page.close()


def test_brackets_grow_by_the_font_that_the_site_brings(browser, site):
    page = browser.new_page()
    page.goto((site / "losses" / "circle.html").as_uri())
    page.evaluate("document.fonts.ready")
    heights = "(found) => [...document.querySelectorAll(found)].map((mo) => mo.getBoundingClientRect().height)"
    grown, plain = page.evaluate(heights, "mo[minsize]"), page.evaluate(heights, "msub > mo, mrow > mo:not([minsize])")
    assert min(grown) > 1.3 * min(plain)
    page.close()


def test_the_page_of_the_mathematics_lowers_its_indices_but_not_parts_of_names(browser, site):
    page = browser.new_page()
    page.goto((site / "reference" / "math.html").as_uri())
    lowered = page.locator("article sub").all_inner_texts()
    assert {"i", "a"} <= set(lowered)
    assert not {"ratio", "weights", "mining", "softmax"} & set(lowered)
    page.goto((site / "reference" / "losses" / "nce.html").as_uri())
    assert "words drawn from Pn for each row" in page.locator("article").inner_text()
    assert "negative_sampling" in page.locator("article").inner_text()
    page.goto((site / "reference" / "losses" / "contrastive.html").as_uri())
    assert "<sub>" not in "".join(page.locator("article math").all_text_contents())  # no mark-up within a formula
    page.close()


PAGES_OF_EACH_KIND = (
    *("index", "course/claims", "course/margins", "ko/course/pairs", "losses/triplet", "losses/adaface", "benchmarks"),
    *("guides/objective", "guides/serve", "guides/training", "reference/losses/triplet", "design"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", WIDTH)])
def test_axe_finds_nothing_serious_on_pages_of_each_kind(browser, site, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    serious = []
    for place in PAGES_OF_EACH_KIND:
        page.goto((site / f"{place}.html").as_uri())
        found = axe.run(page).response["violations"]
        serious += [
            (place, one["id"], [node["target"] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
    page.close()
    assert serious == []
