"""The site as one PDF, printed by Chromium."""

from __future__ import annotations

import io
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from builder.project import BookError, Project

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Equations are there before the page is printed, and so is what a reader would unfold.
READY = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  document.querySelectorAll('details').forEach(e => { e.open = true; });
  await document.fonts.ready;
}"""
MARGINS = {"top": "16mm", "bottom": "18mm", "left": "15mm", "right": "15mm"}
FOOTER = '<div style="font-size:8px;width:100%;text-align:center;color:#555"><span class="pageNumber"></span></div>'


def pages(project: Project) -> list[str]:
    """Names of the pages in the order of the table of contents."""
    import yaml

    toc = yaml.safe_load((project.book / "_toc.yml").read_text(encoding="utf-8"))
    parts = [toc, *toc.get("parts", [])]
    return [toc["root"], *(entry["file"] for part in parts for entry in part.get("chapters", []))]


@contextmanager
def served(folder: Path):
    """Address of the folder on a server of this process."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pdf(root: str | Path | None = None) -> bool:
    """Print the site into book/_build/seeing-through-compression.pdf; needs Chromium or Chrome.

    Page after page, with bookmarks; links between pages stay links, those to other files of the site are dropped.
    """
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import ArrayObject, NameObject

    project, executable = Project(root), next(filter(None, map(shutil.which, BROWSERS)), None)
    if not (project.html / "index.html").is_file():
        raise BookError("there is no published site; run 'make book'")
    if executable is None:
        raise BookError(f"none of {', '.join(BROWSERS)} is on this machine; install Chromium to print the book")
    writer, starts = PdfWriter(), {}
    with served(project.html) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        for name in pages(project):
            tab = browser.new_page()
            tab.goto(f"{address}/{name}.html", wait_until="networkidle", timeout=120_000)
            tab.evaluate(READY)
            printed = tab.pdf(
                format="A4", margin=MARGINS, display_header_footer=True, header_template="<span></span>",
                footer_template=FOOTER, print_background=True, tagged=True,
            )  # fmt: skip
            starts[name] = len(writer.pages)
            title = tab.locator("article h1").first.inner_text().rstrip("#").strip()
            writer.append(PdfReader(io.BytesIO(printed)), outline_item=title)
            tab.close()
    for page in writer.pages:
        kept = ArrayObject()
        for reference in page.get("/Annots", ()):
            link = reference.get_object()
            target = str(link.get("/A", {}).get("/URI", ""))
            name = urlsplit(urldefrag(target)[0]).path.strip("/").removesuffix(".html")
            if target.startswith(address) and name in starts:
                del link["/A"]
                link[NameObject("/Dest")] = ArrayObject([writer.pages[starts[name]].indirect_reference, NameObject("/Fit")])
            if not target.startswith(address) or name in starts:
                kept.append(reference)
        page[NameObject("/Annots")] = kept
    output = project.build / "seeing-through-compression.pdf"
    writer.write(output)
    print(f"{output}: {len(writer.pages)} pages, {output.stat().st_size / 1e6:.1f} MB")
    return True
