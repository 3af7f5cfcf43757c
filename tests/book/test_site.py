"""The built site, in book/_build/html: complete, readable, and served by nothing but itself.

Fails where the site is missing ('make book' builds it). The tests marked ``browser`` need Chromium or Chrome: without
one they are skipped, unless REQUIRE_BROWSER=1. Each page is opened once and looked at from all sides (``visits``); what
was measured stands in book/_build/site.json afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
# As the table of contents names them, so that a page that was not built is missed.
PAGES = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
CHAPTERS = [name for name in PAGES if name[:2].isdigit()]
NOTEBOOKS = sorted(path.name for path in (ROOT / "book").glob("*.ipynb"))
WIDTHS = {"screen": 1280, "phone": 390}
# Pages that still print tables as text, and show cells of more than 15 lines: how many, how long. May only shrink.
TEXT_TABLES = {"01": 3, "02": 5, "03": 11, "04": 6, "05": 5, "06": 10, "07": 11, "08": 13, "09": 8, "10": 11, "11": 9}
TEXT_TABLES |= {"12": 13, "13": 1, "14": 5, "how-to-judge-one-video": 4, "hyper-parameters": 3}
LONG_CELLS = {"01": 40, "02": 44, "03": 53, "04": 60, "05": 49, "06": 61, "07": 86, "08": 74, "09": 79, "10": 61, "11": 71}
LONG_CELLS |= {"12": 71, "13": 64, "14": 77, "how-to-judge-one-video": 29, "hyper-parameters": 55}
LONG_CELLS |= {"how-to-the-losses-in-your-own-loop": 33}

READY = "async () => { if (window.MathJax) await MathJax.startup.promise; await document.fonts.ready }"
MEASURE = """() => {
  const article = document.querySelector('article'), round = number => Math.round(number * 1000) / 1000;
  const all = selector => [...article.querySelectorAll(selector)].filter(e => e.checkVisibility() && e.clientHeight);
  const lines = text => text.trimEnd().split('\\n');
  const code = all('div.highlight').filter(e => !e.closest('.cell_output'));
  // Three lines or more with two gaps or more between words: columns.
  const columns = e => lines(e.innerText).filter(l => (l.trim().match(/\\S {2,}(?=\\S)/g) || []).length > 1).length > 2;
  const pictures = all('figure img, .cell_output img'), first = pictures[0]?.getBoundingClientRect().top + scrollY;
  const equations = all('.math').map(e => [e.id || e.innerText, e.querySelector('mjx-container')]).filter(e => e[1]);
  const shown = e => e.querySelector('svg').getBoundingClientRect().width;
  return {
    height: document.documentElement.scrollHeight,
    sideways: document.documentElement.scrollWidth - innerWidth,
    code: round(code.reduce((sum, e) => sum + e.clientHeight, 0) / article.clientHeight),
    longest_cell: Math.max(0, ...all('.cell_input').map(e => lines(e.innerText).length)),
    text_tables: all('.cell_output pre').filter(columns).length,
    tables: all('table').length,
    clipped: equations.filter(([, e]) => shown(e) > e.clientWidth + 1).map(([name, e]) => `${name}: ${shown(e)} px`),
    scrolling: all('pre').filter(e => e.scrollWidth > e.clientWidth + 1).length,
    first_figure: pictures.length ? Math.round(first) : null,
    pictures: all('.cell_output img').filter(e => !e.closest('.slider'))
      .map(e => [e.naturalWidth, e.naturalHeight, e.clientWidth, e.clientHeight, parseFloat(getComputedStyle(e).padding)]),
  };
}"""
STATIC = """() => ({
  raw: [...document.querySelectorAll('article .math')].filter(e => !e.querySelector('mjx-container')).length,
  wrong: [...document.querySelectorAll('[data-mjx-error]')].map(e => e.dataset.mjxError),
  dollars: document.querySelector('article').innerText.includes('$$'),
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  fonts: [...document.fonts].filter(f => f.family.includes('Source') && f.status == 'loaded').length,
})"""
DROP_FONTS = """() => { for (const sheet of document.styleSheets) for (let i = sheet.cssRules.length - 1; i >= 0; i--)
  if (sheet.cssRules[i] instanceof CSSFontFaceRule && sheet.cssRules[i].cssText.includes('Source')) sheet.deleteRule(i) }"""
# Before axe reads the page: equations have no text of their own, and of each kind of token three stand for all.
PRUNE = """() => { const count = {}; document.querySelectorAll('mjx-container').forEach(e => e.remove());
  for (const e of document.querySelectorAll('.highlight span')) {
    const kind = e.className + getComputedStyle(e.closest('.highlight')).backgroundColor;
    if ((count[kind] = (count[kind] || 0) + 1) > 3) e.replaceWith(e.textContent) } }"""
THEME = "theme => { document.documentElement.dataset.theme = theme }"


class Page(HTMLParser):
    """What the tests need of one HTML file: loaded addresses, links, images, ids."""

    def __init__(self, path: Path):
        super().__init__()
        self.loaded, self.links, self.images, self.ids = [], [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "author", "search", "index", "next", "prev"):
            self.loaded.append(values.get("href", ""))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values)


parsed = cache(Page)


@pytest.fixture(scope="module")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.fail(f"no site at {SITE.relative_to(ROOT)}: run 'make book' first")
    return SITE


@pytest.fixture(scope="module")
def served(site):
    """Address of the site on a server of this process."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        reason = f"none of {', '.join(names)} is installed"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


def open_tab(browser, served, **settings):
    """A tab that records every request to another host and every complaint on the console."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light", **settings)
    tab.foreign, tab.complaints = [], []
    own = (served, "data:", "blob:")
    tab.on("request", lambda request: request.url.startswith(own) or tab.foreign.append(request.url))
    tab.on("console", lambda message: message.type == "error" and tab.complaints.append(f"{message.text} {message.location}"))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    return tab


@pytest.fixture
def tab(browser, served):
    page = open_tab(browser, served)
    yield page
    page.close()
    assert page.foreign == [] and page.complaints == []


@pytest.fixture(scope="module")
def visits(browser, served):
    """Of a page's name: all that is seen at both widths, in both themes, with the site's fonts and without them."""
    from axe_playwright_python.sync_playwright import Axe

    def axe(tab, **options):
        options |= {"preload": False, "resultTypes": ["violations"]}
        found = Axe().run(tab, options=options).response["violations"]
        return [
            f"{each['id']}: {node['html'][:120]}; {node.get('failureSummary', '')[:240]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"][:3]
        ]

    @cache
    def visit(name: str) -> dict:
        tab = open_tab(browser, served)
        seen = {"ok": tab.goto(f"{served}/{name}.html").ok}
        tab.evaluate(READY)
        seen |= tab.evaluate(STATIC)
        for fonts in ("", " without fonts"):
            for place, width in WIDTHS.items():
                tab.set_viewport_size({"width": width, "height": 844})
                seen[place + fonts] = tab.evaluate(MEASURE)
            tab.evaluate(DROP_FONTS)
        tab.evaluate(PRUNE)
        seen["axe"] = axe(tab)
        tab.evaluate(THEME, "dark")
        seen["axe"] += axe(tab, runOnly=["color-contrast"])
        seen |= {"foreign": tab.foreign, "complaints": tab.complaints}
        tab.close()
        return seen

    return visit


# Without a browser


@pytest.mark.parametrize("name", PAGES)
def test_page_loads_nothing_from_elsewhere(site, name):
    for address in parsed(site / f"{name}.html").loaded:
        assert not urlsplit(address).netloc, f"{name}.html loads {address}"
        if not address.startswith("data:"):
            assert (site / unquote(urlsplit(address).path)).is_file(), f"{name}.html loads {address}, which is not there"


def test_styles_load_nothing_from_elsewhere(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import\s+['\"](?:https?:)?//[^;]*", text)
        assert not found, f"{path.relative_to(site)}: {found}"


@pytest.mark.parametrize("name", PAGES)
def test_images_have_alt_text(site, name):
    for image in parsed(site / f"{name}.html").images:
        # Pictures of the book must be described; the theme's own logos only named.
        shortest = 1 if image.get("src", "").startswith("_static/") else 20
        assert len((image.get("alt") or "").strip()) >= shortest, f"{image.get('src', '')[:80]} in {name}.html"


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_site_lead_somewhere(site, name):
    for link in parsed(site / f"{name}.html").links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = site / unquote(parts.path) if parts.path else site / f"{name}.html"
        assert target.exists(), f"{name}.html links to {link}"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in parsed(target).ids, f"{name}.html links to {link}"


def test_no_path_of_this_machine_is_published(site):
    files = [path for kind in ("*.html", "*.ipynb", "*.js", "*.md", "*.txt") for path in site.rglob(kind)]
    assert [path.name for path in files if str(ROOT).encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_chapters_can_be_taken_and_opened_elsewhere(site, name):
    links = parsed(site / name.replace(".ipynb", ".html")).links
    assert f"_sources/{name}" in links, "the notebook, to download"
    for host, end in (("mybinder.org", f"tree/book/{name}"), ("colab.research.google.com", f"book/{name}")):
        assert any(urlsplit(link).netloc == host and link.endswith(end) for link in links), host
    assert any("/edit/" in link and link.endswith(f"book/{name}") for link in links), "its source"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_chapters_say_how_they_were_made(site, name):
    text = (site / name.replace(".ipynb", ".html")).read_text(encoding="utf-8")
    banner = re.search(r'<div class="provenance.*?</details></div>', text, re.S)
    assert banner, "no banner"
    for fact in ("Profile", "Device", "Commit", "Data", "Run", "Versions"):
        assert f"<dt>{fact}</dt>" in banner[0]
    assert name.removesuffix(".ipynb") in (site / "status.html").read_text(encoding="utf-8"), "not on the status page"
    assert "<dd>smoke</dd>" not in banner[0] or "no results" in banner[0]


def test_reference_says_nothing_of_base_classes(site):
    for name in (name for name in PAGES if name.startswith("api-")):
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        assert not re.search("Alias for field number|Should be overridden|kwargs</span></span></em><span class=.sig-p", text)


def test_bibliography_names_author_and_year(site):
    text = (site / "bibliography.html").read_text(encoding="utf-8")
    labels = re.findall(r'class="label"><span class="fn-bracket">\[</span>(.*?)<span class="fn-bracket">', text)
    assert len(labels) > 20 and len(set(labels)) == len(labels)
    wrong = [each for each in labels if not re.fullmatch(r"[^\d{}\\]+, \d{4}[a-z]?", re.sub("<.*?>", "", each))]
    assert wrong == []


# With a browser


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_in_a_browser(visits, name):
    seen = visits(name)
    assert seen["ok"] and seen["fonts"] >= 1, "opens, with the site's own fonts"
    assert {key: seen[key] for key in ("raw", "wrong", "dollars", "broken")} == {
        "raw": 0, "wrong": [], "dollars": False, "broken": [],
    }  # fmt: skip
    assert seen["foreign"] == [], "requests leave the machine"
    assert seen["complaints"] == [], "errors on the console"


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_at_any_width_with_any_font(visits, name):
    """A page wider than the window scrolls sideways as a whole; an equation wider than its column loses its end."""
    for view in (place + fonts for place in WIDTHS for fonts in ("", " without fonts")):
        assert visits(name)[view]["sideways"] <= 0, view
        assert visits(name)[view]["clipped"] == [], f"{view}: break these equations into lines"


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_tables_are_tables_and_code_is_short(visits, name):
    seen, key = visits(name)["screen"], name[:2] if name in CHAPTERS else name
    assert seen["text_tables"] <= TEXT_TABLES.get(key, 0), "tables printed as text; see addlib.figures.table"
    assert seen["longest_cell"] <= LONG_CELLS.get(key, 15), "lines in the longest visible cell; fold what does not teach"


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_are_sharp_and_keep_their_shape(visits, name):
    """At least 1.9 pixels of the file for one of the page, and the same sides on a phone as on a screen."""
    for place in WIDTHS:
        drawn = visits(name)[place]["pictures"]
        assert drawn, "a chapter has figures"
        for own_width, own_height, width, height, padding in drawn:
            width, height = width - 2 * padding, height - 2 * padding
            assert own_width >= 1.9 * width and abs(own_width / own_height * height - width) <= 2


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_accessibility(visits, name):
    assert visits(name)["axe"] == []


@pytest.mark.browser
def test_measures(visits, site, capsys):
    """For who edits a page: how long it is, how much of it is code, where its first figure comes."""
    rows = {name: {place: visits(name)[place] for place in WIDTHS} for name in PAGES}
    for row in (row for places in rows.values() for row in places.values()):
        row["clipped"], row["pictures"] = len(row["clipped"]), len(row["pictures"])
    (site.parent / "site.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    with capsys.disabled():
        for place in WIDTHS:
            print(f"\n{place:38}", *(f"{key:>12}" for key in rows[PAGES[0]][place]))
            for name in PAGES:
                print(f"{name:38}", *(f"{value!s:>12}" for value in rows[name][place].values()))


@pytest.mark.browser
def test_search_finds_a_word_of_the_first_chapter(tab, served):
    tab.goto(f"{served}/{PAGES[1]}.html")
    word = max(re.findall(r"[A-Za-z]+", tab.locator("article h1").first.inner_text()), key=len)
    tab.goto(f"{served}/search.html?q={word}")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    hits = tab.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any(f"/{PAGES[1]}.html" in hit for hit in hits), hits


@pytest.mark.browser
def test_dark_mode(tab, served):
    tab.goto(f"{served}/{PAGES[0]}.html")
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(background)
    for _ in range(3):  # the button goes round auto, light and dark
        tab.locator("button.theme-switch-button:visible").first.click()
        if tab.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark" and tab.evaluate(background) != light


@pytest.mark.browser
def test_on_paper(tab, served):
    """Printed, no line of code runs out of its frame, and a folded cell that was opened can be seen."""
    tab.goto(f"{served}/{PAGES[1]}.html")
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 960})  # an A4 sheet less its margins
    tab.evaluate(READY)
    tab.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    blocks = tab.locator("article pre")
    assert blocks.count() > 10
    assert blocks.evaluate_all("e => e.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)") == []
    seen = "e => e.map(e => getComputedStyle(e).opacity === '1' && e.getBoundingClientRect().height > 0)"
    assert all(tab.locator("article details pre").evaluate_all(seen))
    assert not tab.locator("article summary").first.is_visible()


@pytest.mark.browser
def test_keyboard_alone(tab, served):
    """The first stop leads past the menus, and a folded solution opens and closes."""
    tab.goto(f"{served}/{PAGES[1]}.html")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    solution = tab.locator("details").last
    solution.locator("summary").first.focus()
    for opened in (True, False):
        tab.keyboard.press("Enter")
        assert solution.evaluate("e => e.open") == opened
