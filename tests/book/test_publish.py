"""Publishing: what the pages carry, what is refused, and what is built again."""

import os
import re
import shutil

import pytest

import builder
from builder import BookError
from builder.printing import BROWSERS
from builder.project import read
from builder.publish import repository

FIGURE = {"mystnb": {"image": {"alt": "a pixel"}}}


def test_the_site(executed, capsys, monkeypatch):
    executed.edit("01-pixel", "title", "# A pixel\n\nThe second prose.\n\n$$\na = b\n$$ (eq-a)\n")
    assert builder.publish(root=executed.root), capsys.readouterr().err
    page = (executed.html / "01-pixel.html").read_text()
    assert "The second prose." in page, "prose of the source as it is now"
    assert "one pixel" in page and 'alt="One blue pixel' in page, "outputs of the executed copy"
    banner = re.search(r'<h1>.*?</h1>\s*(?:<p></p>)?\s*<div class="provenance smoke".*?</details></div>', page, re.S)
    assert banner and "not results" in banner[0], "how it was made stands below the title"
    assert "unheard_of" not in page
    assert "Show code cell source" in page, "the chapter's own parameters are folded"
    assert "# Parameters" not in page, "the injected ones are not on the page"
    assert not re.search("mybinder|colab|github.com/[^e]|edit_page", page), "no address is configured, so no button"
    status = (executed.html / "status.html").read_text()
    assert "A pixel" in status and "Title of 02-number" in status and status.count("passed") == 2
    assert (executed.html / "_static" / "mathjax" / "tex-svg-full.js").stat().st_size > 1_000_000
    assert not (executed.build / "stage" / "profiles").exists()
    # The page hides the injected parameters, the notebook that a reader downloads has them.
    (injected,) = [c for c in read(executed.build / "stage" / "01-pixel.ipynb")["cells"] if c["id"] == "injected-parameters"]
    assert "remove-cell" in injected["metadata"]["tags"]

    # Again: nothing to do; another prose: one page; another label, or an address: all pages.
    def built():
        assert builder.publish(root=executed.root), capsys.readouterr().err
        pages = (executed.build / "jb" / "_build" / "html").glob("0*.html")
        return {path.stem: path.stat().st_mtime_ns for path in pages}

    first, again = built(), built()
    assert first == again and "fresh" in capsys.readouterr().out
    executed.edit("01-pixel", "title", "# A pixel\n\nThe third prose.\n\n$$\na = b\n$$ (eq-a)\n")
    third = built()
    assert third["02-number"] == first["02-number"] and third["01-pixel"] > first["01-pixel"]
    assert "The third prose." in (executed.html / "01-pixel.html").read_text()
    executed.edit("01-pixel", "title", "# A pixel\n\nThe third prose.\n\n$$\na = b\n$$ (eq-b)\n")
    assert built()["02-number"] > first["02-number"]
    monkeypatch.setenv("ADDLIB_REPOSITORY_URL", "https://github.com/someone/book")
    built()
    check_buttons((executed.html / "02-number.html").read_text(), "02-number", "github")


def test_missing_stale_and_failed_chapters_are_refused_by_name(executed):
    executed.edit("02-number", "compute", "print(1)")
    failed = executed.executed("01-pixel").rename(executed.executed("01-pixel").with_suffix(".failed.ipynb"))
    with pytest.raises(BookError, match=r"01-pixel \(failed\), 02-number \(stale\).*make execute"):
        builder.publish(root=executed.root)
    failed.unlink()
    with pytest.raises(BookError, match=r"01-pixel \(missing\)"):
        builder.publish(root=executed.root)


def test_widgets_stay_out_of_the_page_and_buttons_lead_to_gitlab(tiny, capsys, monkeypatch):
    view = '{"application/vnd.jupyter.widget-view+json": {"model_id": "00", "version_major": 2}, "text/plain": "a sli" + "der"}'
    source = f"from IPython.display import display\ndisplay({view}, raw=True)\nprint('kept')"
    tiny.chapter("01-pixel", ("slide", "code", source))
    monkeypatch.setenv("ADDLIB_REPOSITORY_URL", "https://gitlab.com/someone/book")
    assert builder.execute(root=tiny.root) and builder.publish(root=tiny.root), capsys.readouterr().err
    page = (tiny.html / "01-pixel.html").read_text()
    assert "kept" in page and "a slider" not in page and 'type="application/vnd.jupyter' not in page
    check_buttons(page, "01-pixel", "gitlab")


def check_buttons(page, name, place):
    assert f"https://{place}.com/someone/book/" in page and "mybinder.org" in page and f"/edit/main/book/{name}.ipynb" in page
    colab = f"colab.research.google.com/github/someone/book/blob/main/book/{name}.ipynb"
    assert (colab in page) == (place == "github")


def test_what_a_reader_would_miss_fails_the_build_and_the_old_site_stays(executed, capsys):
    """A picture without alt text, of a cell or of the prose; a warning of Sphinx. A second try says so again."""
    executed.html.mkdir()
    (executed.html / "index.html").write_text("the old one")
    (executed.book / "a.png").write_bytes(b"")
    executed.edit("01-pixel", "draw", metadata=FIGURE)
    images = ["![](a.png)", "```{figure} a.png\nCaption\n```", ":::{image} a.png\n:alt: short\n:::"]
    executed.edit("02-number", "title", "# Title\n\nSee {numref}`no-such-figure`.\n\n" + "\n\n".join(images))
    for _ in range(2):
        assert not builder.publish(root=executed.root)
        said = capsys.readouterr().err
        assert re.search(r"01-pixel, cell \d+: an image has the alt text 'a pixel'; say what is seen in 20 characters", said)
        assert said.count("02-number, cell 1: an image has the alt text") == 3 and "no-such-figure" in said
        assert (executed.html / "index.html").read_text() == "the old one"


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("git@github.com:someone/book.git", "https://github.com/someone/book"),
        ("ssh://git@gitlab.example.org/a/b", "https://gitlab.example.org/a/b"),
        ("https://user:token@github.com/someone/book.git", "https://github.com/someone/book"),
        ("/srv/git/book.git", ""),
        ("https://git.example.org/a/b", ""),
        (None, ""),
    ],
)
def test_address_of_the_project(tmp_path, monkeypatch, origin, address):
    monkeypatch.delenv("ADDLIB_REPOSITORY_URL", raising=False)
    os.system(f"git init -q {tmp_path}" + (f" && git -C {tmp_path} remote add origin {origin}" if origin else ""))
    assert repository(tmp_path) == address
    monkeypatch.setenv("ADDLIB_REPOSITORY_URL", "https://github.com/other/fork/")
    assert repository(tmp_path) == "https://github.com/other/fork"
    monkeypatch.setenv("ADDLIB_REPOSITORY_URL", "")
    assert repository(tmp_path) == ""


# --- the PDF ---

TOC = "format: jb-book\nroot: intro\nparts:\n  - chapters:\n      - file: 01-waves\n      - file: bibliography\n"
PAGE = """<!DOCTYPE html><html><head><title>{0}</title></head><body><article><h1>{0}</h1><p>{1}</p>
<details><summary>Solution</summary><p>Unfolded in {0}</p></details></article></body></html>"""
TEXT = {
    "intro": ("Welcome", 'See <a href="01-waves.html#energy">waves</a> and <a href="https://example.org/">others</a>.'),
    "01-waves": ("Waves", "<br>".join(f"Line {number}" for number in range(120)) + '<a href="_sources/x.ipynb">x</a>'),
    "bibliography": ("Bibliography", "Fourier 1822"),
}


@pytest.mark.browser
def test_pdf_has_every_page_and_links_inside(tiny):
    from pypdf import PdfReader

    if not any(map(shutil.which, BROWSERS)):
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but there is none")
        pytest.skip("no Chromium or Chrome")
    tiny.html.mkdir(parents=True)
    (tiny.book / "_toc.yml").write_text(TOC)
    (tiny.html / "index.html").write_text('<meta http-equiv="refresh" content="0; url=intro.html">')
    for name, (title, text) in TEXT.items():
        (tiny.html / f"{name}.html").write_text(PAGE.format(title, text))
    assert builder.pdf(root=tiny.root)
    reader = PdfReader(tiny.build / "seeing-through-compression.pdf")
    assert [entry.title for entry in reader.outline] == ["Welcome", "Waves", "Bibliography"]
    starts = [reader.get_destination_page_number(entry) for entry in reader.outline]
    assert starts[:2] == [0, 1] and starts[2] > 2, "the second chapter has several sheets"
    texts = [page.extract_text() for page in reader.pages]
    numbers = [text.split()[-1] for text in texts]
    assert numbers == [str(number + 1) for number in range(len(texts))], "numbered through"
    assert f"Contents Waves 2 Bibliography {starts[2] + 1}" in " ".join(texts[0].split())
    assert "Unfolded in Welcome" in texts[0] and "Fourier 1822" in texts[starts[2]]
    links = [link.get_object() for link in reader.pages[0]["/Annots"]]
    inside = [link for link in links if "/Dest" in link]
    assert [reader.get_page_number(link["/Dest"][0].get_object()) for link in inside] == [1]
    assert [link["/A"]["/URI"] for link in links if "/A" in link] == ["https://example.org/"]
    annotations = str([page.get("/Annots", "") for page in reader.pages])
    assert "127.0.0.1" not in annotations and "file:" not in annotations


def test_pdf_without_a_site_or_a_browser(tiny, monkeypatch):
    with pytest.raises(BookError, match="no published site.*make book"):
        builder.pdf(root=tiny.root)
    tiny.html.mkdir(parents=True)
    (tiny.html / "index.html").touch()
    monkeypatch.setattr("builder.printing.shutil.which", lambda name: None)
    with pytest.raises(BookError, match="none of chromium"):
        builder.pdf(root=tiny.root)
