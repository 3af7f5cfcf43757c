"""A PDF and an archive of a small site."""

import os
import shutil
import zipfile

import pytest

from addlib.book import BookError, archive, pdf
from addlib.book.takeaway import BROWSERS

TOC = "format: jb-book\nroot: intro\nparts:\n  - chapters:\n      - file: 01-waves\n      - file: bibliography\n"
PAGE = """<!DOCTYPE html><html><head><title>{0}</title></head><body><article><h1>{0}</h1><p>{1}</p>
<details><summary>Solution</summary><p>Unfolded in {0}</p></details></article></body></html>"""
TEXT = {
    "intro": ("Welcome", 'See <a href="01-waves.html#energy">waves</a> and <a href="https://example.org/">others</a>.'),
    "01-waves": ("Waves", "<br>".join(f"Line {number}" for number in range(120)) + '<a href="_sources/x.ipynb">x</a>'),
    "bibliography": ("Bibliography", "Fourier 1822"),
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "_config.yml").write_text("title: small\n")
    site = tmp_path / "book" / "_build" / "html"
    (site / "_static").mkdir(parents=True)
    (tmp_path / "book" / "_toc.yml").write_text(TOC)
    (site / "index.html").write_text('<meta http-equiv="refresh" content="0; url=intro.html">')
    (site / "_static" / "style.css").write_text("body {}")
    for name, (title, text) in TEXT.items():
        (site / f"{name}.html").write_text(PAGE.format(title, text))
    return tmp_path


@pytest.mark.browser
def test_pdf_has_every_page_and_links_inside(project):
    from pypdf import PdfReader

    if not any(map(shutil.which, BROWSERS)):
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but there is none")
        pytest.skip("no Chromium or Chrome")
    reader = PdfReader(pdf(root=project))
    assert [entry.title for entry in reader.outline] == ["Welcome", "Waves", "Bibliography"]
    starts = [reader.get_destination_page_number(entry) for entry in reader.outline]
    assert starts[:2] == [0, 1] and starts[2] > 2, "the second chapter has several sheets"
    texts = [page.extract_text() for page in reader.pages]
    assert "Unfolded in Welcome" in texts[0] and "Fourier 1822" in texts[starts[2]]
    links = [link.get_object() for link in reader.pages[0]["/Annots"]]
    inside = [link for link in links if "/Dest" in link]
    assert [reader.get_page_number(link["/Dest"][0].get_object()) for link in inside] == [1]
    assert [link["/A"]["/URI"] for link in links if "/A" in link] == ["https://example.org/"]
    assert not any("127.0.0.1" in str(page.get("/Annots", "")) for page in reader.pages)


def test_archive_is_the_site(project):
    path = archive(root=project)
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None
        names = {name.removeprefix("seeing-through-compression/") for name in packed.namelist()}
        assert names == {"index.html", "_static/style.css", *(f"{name}.html" for name in TEXT)}
        assert all(entry.external_attr >> 16 == 0o644 for entry in packed.infolist())
    first = path.read_bytes()
    assert archive(root=project).read_bytes() == first, "the same site gives the same bytes"


def test_without_a_site(project):
    shutil.rmtree(project / "book" / "_build")
    for make in (pdf, archive):
        with pytest.raises(BookError, match="no published site.*make book"):
            make(root=project)


def test_without_a_browser(project, monkeypatch):
    monkeypatch.setattr("addlib.book.takeaway.shutil.which", lambda name: None)
    with pytest.raises(BookError, match="none of chromium"):
        pdf(root=project)
