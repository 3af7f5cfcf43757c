"""Publishing: what the pages carry, and what is refused."""

from __future__ import annotations

import re

import nbformat
import pytest

from addlib import book
from addlib.book import BookError


def edit_metadata(tiny, name, identifier, **metadata):
    path = tiny.book / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.id == identifier]
    cell.metadata = nbformat.from_dict(metadata)
    nbformat.write(notebook, path)


def test_the_site(executed, capsys):
    executed.edit("01-pixel", "title", "# A pixel\n\nThe second prose.\n\n$$\na = b\n$$ (eq-a)\n")
    assert book.publish(root=executed.root), capsys.readouterr().err
    page = (executed.html / "01-pixel.html").read_text()
    assert "The second prose." in page, "prose of the source as it is now"
    assert "one pixel" in page and 'alt="One blue pixel' in page, "outputs of the executed copy"
    banner = re.search(r'<h1>.*?</h1>\s*(?:<p></p>)?\s*<div class="provenance smoke".*?</details></div>', page, re.S)
    assert banner and "no results" in banner[0], "the banner stands below the title"
    assert "unheard_of" not in page
    assert "Show code cell source" in page, "the chapter's own parameters are folded"
    assert "# Parameters" not in page, "the injected ones are not on the page"
    status = (executed.html / "status.html").read_text()
    for title in ("A pixel", "Title of 02-number"):
        assert title in status
    assert status.count("passed") == 2
    assert (executed.html / "_static" / "mathjax" / "tex-svg-full.js").stat().st_size > 1_000_000
    assert not (executed.stage / "profiles").exists()
    # The page hides the injected parameters, the notebook that a reader downloads has them.
    staged = nbformat.read(executed.stage / "01-pixel.ipynb", as_version=4)
    (injected,) = [cell for cell in staged.cells if cell.id == "injected-parameters"]
    assert "remove-cell" in injected.metadata.tags


def test_missing_stale_and_failed_chapters_are_refused_by_name(executed):
    executed.edit("02-number", "compute", "print(1)")
    (executed.executed("smoke") / "01-pixel.ipynb").rename(executed.executed("smoke") / "01-pixel.failed.ipynb")
    with pytest.raises(BookError, match=r"01-pixel \(failed\), 02-number \(stale\).*book execute"):
        book.publish(root=executed.root)
    (executed.executed("smoke") / "01-pixel.failed.ipynb").unlink()
    with pytest.raises(BookError, match=r"01-pixel \(missing\)"):
        book.publish(root=executed.root)


def test_widgets_stay_out_of_the_page(tiny, capsys):
    view = '{"application/vnd.jupyter.widget-view+json": {"model_id": "00", "version_major": 2}, "text/plain": "a sli" + "der"}'
    source = f"from IPython.display import display\ndisplay({view}, raw=True)\nprint('kept')"
    tiny.chapter("01-pixel", ("slide", "code", source))
    assert book.execute(root=tiny.root) and book.publish(root=tiny.root), capsys.readouterr().err
    page = (tiny.html / "01-pixel.html").read_text()
    assert "kept" in page and "a slider" not in page and 'type="application/vnd.jupyter' not in page


@pytest.mark.parametrize("alt", [None, "a pixel"])
def test_a_picture_without_alt_text_is_refused(executed, alt):
    edit_metadata(executed, "01-pixel", "draw", **({"mystnb": {"image": {"alt": alt}}} if alt else {}))
    with pytest.raises(BookError, match=r"01-pixel, code cell 2 \(draw\).*alt text"):
        book.publish(root=executed.root)


@pytest.mark.parametrize(
    "image", ["![](a.png)", "```{figure} a.png\nCaption\n```", ":::{image} a.png\n:alt: short\n:::"]
)
def test_an_image_of_the_prose_needs_alt_text_too(executed, image):
    executed.edit("02-number", "title", f"# Title\n\n{image}\n")
    with pytest.raises(BookError, match=r"02-number, cell title: .*20 characters"):
        book.publish(root=executed.root)


def test_a_warning_of_the_builder_fails_and_the_old_site_stays(executed, capsys):
    executed.html.mkdir()
    (executed.html / "index.html").write_text("the old one")
    executed.edit("02-number", "title", "# Title\n\nSee {numref}`no-such-figure`.\n")
    assert not book.publish(root=executed.root)
    assert "no-such-figure" in capsys.readouterr().err
    assert (executed.html / "index.html").read_text() == "the old one"
