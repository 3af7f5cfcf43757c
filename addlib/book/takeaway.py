"""The book to take away: one PDF, printed by Chromium, and an archive of the site that opens without a network."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import yaml

from addlib.book.project import BookError, Project, locate
from addlib.files import write

NAME = "seeing-through-compression"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 120_000  # milliseconds; a long page on a busy machine
# Equations are there before the page is printed, and so is what a reader would unfold.
READY = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  document.querySelectorAll('details').forEach(e => { e.open = true; });
  await document.fonts.ready;
}"""
FOOTER = (
    '<div style="font-size:8px;width:100%;margin:0 15mm;display:flex;justify-content:space-between;color:#555">'
    '<span class="title"></span><span class="pageNumber"></span></div>'
)


def pages(project: Project) -> list[str]:
    """Names of the pages in the order of the table of contents."""
    toc = yaml.safe_load((project.book / "_toc.yml").read_text(encoding="utf-8"))
    parts = [toc, *toc.get("parts", [])]
    return [toc["root"], *(entry["file"] for part in parts for entry in part.get("chapters", []))]


def pdf(output: str | Path | None = None, root: str | Path | None = None) -> Path:
    """Print the published site into one PDF, page after page, with bookmarks; links between pages stay links.

    output: where to; book/_build/seeing-through-compression.pdf if None. Returns the path.
    Raises BookError without a published site, or without Chromium or Chrome on this machine.
    """
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    project = _published(root)
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        raise BookError(f"none of {', '.join(BROWSERS)} is on this machine; install Chromium to print the book")
    writer, starts = PdfWriter(), {}
    with _served(project.html) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        for name in pages(project):
            tab = browser.new_page()
            tab.set_default_timeout(PATIENCE)
            tab.goto(f"{address}/{name}.html", wait_until="networkidle")
            tab.evaluate(READY)
            printed = tab.pdf(
                format="A4",
                margin={"top": "16mm", "bottom": "18mm", "left": "15mm", "right": "15mm"},
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                print_background=True,
                tagged=True,
            )
            starts[name] = len(writer.pages)
            title = tab.locator("article h1").first.inner_text().rstrip("#").strip()
            writer.append(PdfReader(io.BytesIO(printed)), outline_item=title)
            tab.close()
        browser.close()
        _link(writer, starts, address)
    writer.add_metadata({"/Title": "Seeing through Compression"})
    output = Path(output or project.build / f"{NAME}.pdf")
    write(output, writer.write)
    print(f"{output}: {len(writer.pages)} pages, {output.stat().st_size / 1e6:.1f} MB")
    return output


def archive(output: str | Path | None = None, root: str | Path | None = None) -> Path:
    """Pack the published site; unpacked anywhere, its index.html opens in a browser without a server or a network.

    output: where to; book/_build/seeing-through-compression.zip if None. Returns the path. The same site gives the same bytes.
    Raises BookError without a published site.
    """
    project = _published(root)
    output = Path(output or project.build / f"{NAME}.zip")

    def pack(file):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(path for path in project.html.rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(f"{NAME}/{path.relative_to(project.html).as_posix()}")
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                packed.writestr(entry, path.read_bytes())

    write(output, pack)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    return output


def _published(root) -> Project:
    project = locate(root)
    if not (project.html / "index.html").is_file():
        raise BookError("there is no published site; run 'addlib book publish', or 'make book'")
    return project


@contextmanager
def _served(folder: Path):
    """Address of the folder on a server of this process."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _link(writer, starts: dict[str, int], address: str) -> None:
    """Links to pages of the book lead to where they begin; those to other files of the site are dropped."""
    from pypdf.generic import ArrayObject, NameObject, NullObject

    for page in writer.pages:
        kept = ArrayObject()
        for reference in page.get("/Annots", ()):
            link = reference.get_object()
            target = str(link.get("/A", {}).get("/URI", ""))
            if target.startswith(address):
                name = urlsplit(urldefrag(target)[0]).path.strip("/").removesuffix(".html")
                if name not in starts:
                    continue
                place = writer.pages[starts[name]].indirect_reference
                del link["/A"]
                top = ArrayObject([place, NameObject("/XYZ"), NullObject(), NullObject(), NullObject()])
                link[NameObject("/Dest")] = top
            kept.append(reference)
        if kept:
            page[NameObject("/Annots")] = kept
        elif "/Annots" in page:
            del page["/Annots"]
