"""The built site, in book/_build/html: complete, readable, and served by nothing but itself.

Fails where the site is missing ('make book' builds it). The tests marked ``browser`` need Chromium or Chrome: without
one they are skipped, unless REQUIRE_BROWSER=1. Each page is opened once and looked at from all sides (``visits``); what
was measured stands in book/_build/site.json afterwards.
"""

import base64
import io
import json
import re
import threading
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

from builder.publish import repository
from figures import Slider

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
# As the table of contents names them, so that a page that was not built is missed.
PAGES = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
CHAPTERS = [name for name in PAGES if name[:2].isdigit()]
NOTEBOOKS = sorted(path.name for path in (ROOT / "book").glob("*.ipynb"))
# One page of each kind: on these, axe also reads the menus and measures contrasts, which is slow, in both themes.
SAMPLES = [TOC["root"], CHAPTERS[0], CHAPTERS[6], "how-to-judge-one-video", "notation", "api-losses", "bibliography"]
WIDTHS = {"screen": 1280, "phone": 390}
LOOK = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


class Page(HTMLParser):
    """What the tests need of one HTML file: loaded addresses, links, images, ids."""

    def __init__(self, path: Path):
        super().__init__()
        self.loaded, self.links, self.images, self.ids = [], [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = {name: value for name, value in attributes if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "author", "search", "index", "next", "prev"):
            self.loaded.append(values["href"])
        if tag == "a" and "href" in values:
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
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *arguments: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def open_tab(browser, served, **settings):
    """A tab that records every request to another host and every complaint on the console."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light", **settings)
    tab.add_init_script(LOOK)
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

    tab = open_tab(browser, served)  # one for all, so that it keeps MathJax and the fonts

    def axe(where: str, **options) -> list[str]:
        options = {"preload": False, "resultTypes": ["violations"], **options}
        found = Axe().run(tab, context=where, options=options).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {node['html'][:120]}; {node['failureSummary']}" for each in serious for node in each["nodes"]]

    @cache
    def visit(name: str) -> dict:
        tab.foreign.clear(), tab.complaints.clear()
        tab.set_viewport_size({"width": WIDTHS["screen"], "height": 844})
        assert tab.goto(f"{served}/{name}.html").ok
        tab.evaluate("look.ready()")
        seen = {"faults": tab.evaluate("look.faults()")}
        for fonts in ("", " without fonts"):
            for place, width in WIDTHS.items():
                tab.set_viewport_size({"width": width, "height": 844})
                seen[place + fonts] = tab.evaluate("look.measure()")
            tab.evaluate("look.dropFonts()")
        tab.evaluate("look.prune()")
        seen["axe"] = axe("article", rules={"color-contrast": {"enabled": False}})
        for theme in ("light", "dark") if name in SAMPLES else ():
            tab.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            seen["axe"] += axe("html", **({} if theme == "light" else {"runOnly": ["color-contrast"]}))
        return seen | {"foreign": [*tab.foreign], "complaints": [*tab.complaints]}

    yield visit
    tab.close()


# Without a browser


@pytest.mark.parametrize("name", PAGES)
def test_page_is_complete(site, name):
    """What it loads is in the site, its pictures are described, its links within the site lead somewhere."""
    page = parsed(site / f"{name}.html")
    for address in page.loaded:
        assert not urlsplit(address).netloc, f"loads {address} from elsewhere"
        assert address.startswith("data:") or (site / unquote(urlsplit(address).path)).is_file(), f"loads {address}"
    for image in page.images:
        # Pictures of the book must be described; the theme's own logos only named.
        shortest = 1 if image.get("src", "").startswith("_static/") else 20
        assert len(image.get("alt", "").strip()) >= shortest, f"alt text of {image.get('src', '')[:80]}"
    for link in page.links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            target = site / unquote(parts.path) if parts.path else site / f"{name}.html"
            assert target.exists(), f"links to {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in parsed(target).ids, f"links to {link}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_figure_is_a_white_slab_on_a_dark_page(site, name):
    """Charts are turned dark there; the margin of every other figure shows the page."""
    for image in parsed(site / f"{Path(name).stem}.html").images:
        source, kinds = image["src"], image.get("class", "").split()
        if "chart" in kinds or not (source.startswith("data:image/webp") or "_images/" in source):
            continue
        raw = base64.b64decode(source.partition(",")[2]) if source.startswith("data:") else (site / source).read_bytes()
        if raw.lstrip().startswith(b"<"):
            continue  # a drawing in SVG, of assets/
        red, green, blue, alpha = np.moveaxis(np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA")), -1, 0)
        white = (alpha > 128) & (np.minimum(np.minimum(red, green), blue) > 245)
        margin = np.concatenate([white[0], white[-1], white[:, 0], white[:, -1]])
        assert margin.mean() < 0.5, f"{image['alt'][:80]}: a chart without the class, or no figures.picture_axes"


def test_a_short_formula_and_the_mark_after_it_are_one(site):
    page = (site / f"{CHAPTERS[6]}.html").read_text(encoding="utf-8")
    short = re.findall(r'(class="together">)?<span class="math notranslate nohighlight">\\\([^<]{1,20}\\\)</span>[.,;:]', page)
    assert short and all(short)


def test_styles_load_nothing_from_elsewhere(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import\s+['\"](?:https?:)?//[^;]*", text)
        assert not found, f"{path.relative_to(site)}: {found}"


def test_no_path_of_this_machine_is_published(site):
    files = [path for kind in ("*.html", "*.ipynb", "*.js", "*.md", "*.txt") for path in site.rglob(kind)]
    assert [path.name for path in files if str(ROOT).encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_chapters_can_be_taken_and_opened_elsewhere(site, name):
    links = parsed(site / name.replace(".ipynb", ".html")).links
    assert f"_sources/{name}" in links, "the notebook, to download"
    # Elsewhere only where the project has an address: tests/book/test_publish.py sets one.
    for part in ("//mybinder.org/", "//colab.research.google.com/", "/edit/") if repository(ROOT) else ():
        assert any(part in link and link.endswith(f"book/{name}") for link in links), part


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_chapters_say_how_they_were_made(site, name):
    text = (site / name.replace(".ipynb", ".html")).read_text(encoding="utf-8")
    (banner,) = re.findall(r'<div class="provenance.*?</details></div>', text, re.S)
    assert all(f"<dt>{fact}</dt>" in banner for fact in ("Profile", "Device", "Commit", "Data", "Run", "Versions"))
    assert name.removesuffix(".ipynb") in (site / "status.html").read_text(encoding="utf-8"), "not on the status page"
    assert "<dd>smoke</dd>" not in banner or "not results" in banner


def test_reference_and_bibliography_speak_plainly(site):
    """Nothing that a base class says of itself; author and year as labels, no two alike."""
    for path in site.glob("api-*.html"):
        noise = "Alias for field number|Should be overridden|kwargs</span></span></em><span class=.sig-p"
        assert not re.search(noise, path.read_text(encoding="utf-8")), path.name
    text = (site / "bibliography.html").read_text(encoding="utf-8")
    labels = [re.sub("<.*?>", "", each) for each in re.findall('<span class="label">(.*?)</span>\n<p>', text)]
    assert len(set(labels)) == len(labels) > 20
    assert [each for each in labels if not re.fullmatch(r"\[[^\d{}\\]+, \d{4}[a-z]?]", each)] == []


# With a browser


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_in_a_browser(visits, name):
    seen = visits(name)
    assert [key for key, found in seen["faults"].items() if found] == [], seen["faults"]
    assert seen["foreign"] == [], "requests leave the machine"
    assert seen["complaints"] == [], "errors on the console"
    assert seen["axe"] == [], "serious findings of axe-core about accessibility"


@pytest.mark.browser
@pytest.mark.parametrize("name", [*PAGES, "genindex"])
def test_nothing_is_cut_off_at_any_width_with_any_font(visits, name):
    """A page wider than the window scrolls sideways as a whole; an equation wider than its column loses its end.

    Parameters lie beside the name of their function, not over it; a formula keeps the mark after it in its line.
    """
    for view in (place + fonts for place in WIDTHS for fonts in ("", " without fonts")):
        assert visits(name)[view]["sideways"] <= 0, view
        assert visits(name)[view]["clipped"] == [], f"{view}: break these equations into lines"
        assert visits(name)[view]["overprinted"] == visits(name)[view]["torn"] == [], view


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_tables_are_tables_and_code_is_short(visits, name):
    seen = visits(name)["screen"]
    assert seen["text_tables"] == 0, "tables printed as text"
    assert seen["longest_cell"] <= 15, "lines in the longest visible cell; fold what does not teach"


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_are_sharp_and_keep_their_shape(visits, name):
    """At least 1.9 pixels of the file for one of the page, and the same sides on a phone as on a screen."""
    drawn = [picture for place in WIDTHS for picture in visits(name)[place]["pictures"]]
    assert drawn, "a chapter has figures"
    for own_width, own_height, width, height in drawn:
        assert own_width >= 1.9 * width and abs(own_width / own_height * height - width) <= 2


@pytest.mark.browser
def test_measures(visits, site, capsys):
    """For who edits a page: how long it is, how much of it is code, where its first figure comes."""
    rows = {place: {name: dict(visits(name)[place]) for name in PAGES} for place in WIDTHS}
    with capsys.disabled():
        for place, pages in rows.items():
            print(f"\n{place:38}", *(f"{key:>12}" for key in pages[PAGES[0]]))
            for name, row in pages.items():
                row |= {key: len(found) for key, found in row.items() if isinstance(found, list)}
                print(f"{name:38}", *(f"{value!s:>12}" for value in row.values()))
    (site.parent / "site.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    heights = [row["height"] for name, row in rows["screen"].items() if re.match(r"\d|how-to", name)]
    # 200,000 px for the eighteen that there were when the limit was set.
    assert sum(heights) <= 200_000 / 18 * len(heights), f"{len(heights)} chapters and how-tos take {sum(heights)} px"


@pytest.mark.browser
def test_search_finds_a_word_of_the_first_chapter(tab, served):
    tab.goto(f"{served}/{CHAPTERS[0]}.html")
    word = max(re.findall(r"[A-Za-z]+", tab.locator("article h1").first.inner_text()), key=len)
    tab.goto(f"{served}/search.html?q={word}")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    assert tab.locator(f"#search-results a[href*='{CHAPTERS[0]}.html']").count()


@pytest.mark.browser
def test_dark_mode(tab, served):
    tab.goto(f"{served}/{PAGES[0]}.html")
    seen = {}
    for _ in range(3):  # the button goes round auto, light and dark
        theme = tab.evaluate("document.documentElement.dataset.theme")
        seen[theme] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.locator("button.theme-switch-button:visible").first.click()
    assert len(set(seen.values())) == 2 and "dark" in seen


@pytest.mark.browser
def test_on_paper(tab, served):
    """Printed, no line of code runs out of its frame, folded code is left out, and a solution that was opened can be seen."""
    tab.goto(f"{served}/{CHAPTERS[0]}.html")
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 960})  # an A4 sheet less its margins
    tab.evaluate("look.ready()")
    tab.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    assert tab.locator("article pre:visible").count() > 1 and tab.evaluate("look.measure().scrolling") == 0
    seen = "e => e.map(e => getComputedStyle(e).opacity === '1' && e.getBoundingClientRect().height > 0)"
    folded = tab.locator("article details.above-input")
    assert folded.count() > 5 and not any(each.is_visible() for each in folded.all())
    opened = tab.locator("article .solution section > p").evaluate_all(seen)
    assert opened and all(opened)
    assert not tab.locator("article summary").first.is_visible()


@pytest.mark.browser
def test_keyboard_alone(tab, served):
    """The first stop leads past the menus; a solution and the folded code in it open and close."""
    tab.goto(f"{served}/{CHAPTERS[0]}.html")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    solution = tab.locator("article .solution", has=tab.locator("details")).first
    code = solution.locator("details").first
    assert not code.is_visible()
    solution.locator("button.toggle-button").focus()
    tab.keyboard.press("Enter")
    code.wait_for(state="visible")
    code.locator("summary").focus()
    for opened in (True, False):
        tab.keyboard.press("Enter")
        assert code.evaluate("e => e.open") == opened


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_slider(browser, scripts):
    """Moved by the keyboard, it shows and names the next picture; without scripts the first one stands alone."""
    pictures = [np.full((40, 60, 3), 60 * place, np.uint8) for place in range(4)]
    slider = Slider(pictures, list("abcd"), "A grey square, lighter with each step", name="Step", start=1)
    page = browser.new_page(java_script_enabled=scripts)
    page.set_content(slider._repr_html_())
    control, shown = page.get_by_label("Step"), "e => e.map(e => e.dataset.label)"
    assert page.locator("img:visible").evaluate_all(shown) == ["b"] and control.is_visible() == scripts
    if scripts:
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        assert page.locator("img:visible").evaluate_all(shown) == ["c"]
        assert page.locator("output").inner_text() == control.get_attribute("aria-valuetext") == "c"
    page.close()
