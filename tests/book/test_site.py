"""The built site, in book/_build/html: complete, readable, and served by nothing but itself.

Fails where the site is missing ('make book' builds it). The tests marked ``browser`` need Chromium or Chrome: without
one they are skipped, unless REQUIRE_BROWSER=1.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from addlib.book.project import Project
from addlib.book.takeaway import BROWSERS, READY
from addlib.book.takeaway import pages as pages_of

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"


def pages() -> list[str]:
    """Names of the pages as the table of contents gives them, so that a page that was not built is missed."""
    return pages_of(Project(ROOT))


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
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        reason = f"none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api") if os.environ.get("REQUIRE_BROWSER") != "1" else None
    if sync_api is None:
        from playwright import sync_api
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, served):
    """A page of the browser that records every request to another host and every complaint on the console."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.foreign, page.complaints = [], []

    def on_request(request):
        if not request.url.startswith((served, "data:", "blob:")):
            page.foreign.append(request.url)

    page.on("request", on_request)
    page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.close()


# Without a browser


@pytest.mark.parametrize("name", pages())
def test_page_loads_nothing_from_elsewhere(site, name):
    page = Page(site / f"{name}.html")
    foreign = [address for address in page.loaded if urlsplit(address).netloc]
    assert not foreign
    for address in page.loaded:
        if not address.startswith("data:"):
            target = (site / f"{name}.html").parent / unquote(urlsplit(address).path)
            assert target.is_file(), f"{name}.html loads {address}, which is not in the site"


def test_styles_load_nothing_from_elsewhere(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import\s+['\"](?:https?:)?//[^;]*", text)
        assert not found, f"{path.relative_to(site)}: {found}"


@pytest.mark.parametrize("name", pages())
def test_images_have_alt_text(site, name):
    for image in Page(site / f"{name}.html").images:
        # Pictures of the book must be described; the theme's own logos only named.
        shortest = 1 if image.get("src", "").startswith("_static/") else 20
        assert len((image.get("alt") or "").strip()) >= shortest, f"{image.get('src', '')[:80]} in {name}.html"


@pytest.mark.parametrize("name", pages())
def test_links_within_the_site_lead_somewhere(site, name):
    source = site / f"{name}.html"
    for link in Page(source).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = source.parent / unquote(parts.path) if parts.path else source
        assert target.exists(), f"{name}.html links to {link}"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in Page(target).ids, f"{name}.html links to {link}"


def test_no_path_of_this_machine_is_published(site):
    files = [path for kind in ("*.html", "*.ipynb", "*.js", "*.md", "*.txt") for path in site.rglob(kind)]
    home = str(ROOT).encode()
    assert [path.name for path in files if home in path.read_bytes()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_chapters_can_be_taken_and_opened_elsewhere(site, path):
    links = Page(site / f"{path.stem}.html").links
    assert f"_sources/{path.name}" in links, "the notebook, to download"
    for host, end in (("mybinder.org", f"tree/book/{path.name}"), ("colab.research.google.com", f"book/{path.name}")):
        assert any(urlsplit(link).netloc == host and link.endswith(end) for link in links), host
    assert any("/edit/" in link and link.endswith(f"book/{path.name}") for link in links), "its source"


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_chapters_say_how_they_were_made(site, path):
    text = (site / f"{path.stem}.html").read_text(encoding="utf-8")
    banner = re.search(r'<div class="provenance.*?</details></div>', text, re.S)
    assert banner, "no banner"
    for fact in ("Profile", "Device", "Commit", "Data", "Run", "Versions"):
        assert f"<dt>{fact}</dt>" in banner[0]
    assert path.stem in (site / "status.html").read_text(encoding="utf-8"), "not on the status page"
    if "<dd>smoke</dd>" in banner[0]:
        assert "no results" in banner[0]


# With a browser


@pytest.mark.browser
@pytest.mark.parametrize("name", pages())
def test_page_in_a_browser(tab, served, name):
    response = tab.goto(f"{served}/{name}.html", wait_until="networkidle")
    assert response.ok
    equations = tab.locator("article .math")
    if equations.count():
        tab.wait_for_selector("article .math mjx-container", timeout=20_000)
        rendered = "e => e.filter(e => e.querySelector('mjx-container')).length"
        assert equations.evaluate_all(rendered) == equations.count()
        wrong = tab.locator("mjx-container [data-mjx-error]")
        assert wrong.evaluate_all("e => e.map(e => e.dataset.mjxError)") == []
        cut = tab.locator("article div.math").evaluate_all(
            "e => e.filter(e => e.querySelector('svg').getBoundingClientRect().width > e.clientWidth).map(e => e.id)"
        )
        assert cut == [], "equations wider than the column; break them into lines"
    assert "$$" not in tab.locator("article").inner_text()
    broken = tab.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
    assert broken == []
    # A page that is wider than the window scrolls sideways as a whole: unreadable on a phone.
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.foreign == [], "requests leave the machine"
    assert tab.complaints == [], "errors on the console"


@pytest.mark.browser
@pytest.mark.parametrize("name", [name for name in pages() if name[:2].isdigit()])
def test_figures_are_sharp_and_keep_their_shape(tab, served, name):
    """At least 1.9 pixels of the file for one of the page, and the same sides on a phone as on a screen."""
    tab.goto(f"{served}/{name}.html", wait_until="networkidle")
    sides = "e => e.map(e => [e.naturalWidth, e.naturalHeight, e.clientWidth, e.clientHeight])"
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 900})
        drawn = tab.locator("article .cell_output img").evaluate_all(sides)
        assert drawn, "a chapter has figures"
        for own_width, own_height, shown_width, shown_height in drawn:
            assert own_width >= 1.9 * shown_width
            assert abs(own_width / own_height * shown_height - shown_width) <= 2


@pytest.mark.browser
def test_search_finds_a_word_of_the_first_chapter(tab, served):
    first = pages()[1]
    tab.goto(f"{served}/{first}.html")
    word = max(re.findall(r"[A-Za-z]+", tab.locator("article h1").first.inner_text()), key=len)
    tab.goto(f"{served}/search.html?q={word}", wait_until="networkidle")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    hits = tab.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any(f"/{first}.html" in hit for hit in hits), hits
    assert tab.foreign == [] and tab.complaints == []


@pytest.mark.browser
def test_dark_mode(tab, served):
    tab.emulate_media(color_scheme="light")
    tab.goto(f"{served}/{pages()[0]}.html", wait_until="networkidle")
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(background)
    for _ in range(3):  # the button goes round auto, light and dark
        tab.locator("button.theme-switch-button:visible").first.click()
        if tab.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.evaluate(background) != light
    assert tab.foreign == [] and tab.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("name", pages())
def test_accessibility(tab, served, name):
    """axe-core finds nothing serious; equations are left out, thousands of paths without text of their own."""
    from axe_playwright_python.sync_playwright import Axe

    tab.goto(f"{served}/{name}.html", wait_until="networkidle")
    found = [
        f"{each['impact']} {each['id']}: {each['help']}; {node['html'][:120]}; {node.get('failureSummary', '')[:240]}"
        for each in Axe().run(tab, context={"exclude": ["mjx-container"]}).response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
    assert found == []


@pytest.mark.browser
def test_on_paper(tab, served):
    """Printed, no line of code runs out of its frame, and a folded cell that was opened can be seen."""
    tab.goto(f"{served}/{pages()[1]}.html", wait_until="networkidle")
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 960})  # an A4 sheet less its margins
    tab.evaluate(READY)
    blocks = tab.locator("article pre")
    assert blocks.count() > 10
    assert blocks.evaluate_all("e => e.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)") == []
    seen = "e => e.map(e => getComputedStyle(e).opacity === '1' && e.getBoundingClientRect().height > 0)"
    assert all(tab.locator("article details pre").evaluate_all(seen))
    assert not tab.locator("article summary").first.is_visible()


@pytest.mark.browser
def test_keyboard_alone(tab, served):
    """The first stop leads past the menus, and a folded solution opens and closes."""
    name = pages()[1]
    tab.goto(f"{served}/{name}.html", wait_until="networkidle")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    solution = tab.locator("details").last
    summary = solution.locator("summary").first
    assert not solution.evaluate("e => e.open")
    summary.focus()
    tab.keyboard.press("Enter")
    assert solution.evaluate("e => e.open")
    tab.keyboard.press("Enter")
    assert not solution.evaluate("e => e.open")
