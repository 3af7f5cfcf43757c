"""The site as one PDF, printed by Chromium."""

import io
import shutil
from itertools import accumulate
from pathlib import Path

from builder.project import BookError, Project

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Equations are there before the page is printed, and so is what a reader would unfold; folded code is left out (custom.css).
READY = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  document.querySelectorAll('details').forEach(e => { e.open = true; });
  await document.fonts.ready;
}"""
PRINT = {
    "format": "A4", "scale": 0.85, "margin": {"top": "16mm", "bottom": "18mm", "left": "15mm", "right": "15mm"}, "print_background": True,
    "tagged": True,
}  # fmt: skip
# Chromium numbers the sheets of one page only: numbers are printed on empty sheets, which are laid over those of the book.
NUMBERS = PRINT | {
    "tagged": False, "print_background": False, "display_header_footer": True, "header_template": "<span></span>",
    "footer_template": '<div style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span></div>',
}  # fmt: skip
# A list of contents at the end of the first page: rows of title and number.
CONTENTS = """rows => {
  document.getElementById('printed-contents')?.remove();
  const part = Object.assign(document.createElement('section'), {id: 'printed-contents', innerHTML: '<h2>Contents</h2>'});
  for (const [title, number] of rows) {
    const row = document.createElement('div');
    row.style = 'display:flex;justify-content:space-between;border-bottom:1px dotted';
    row.append(...[title, number].map(text => Object.assign(document.createElement('span'), {textContent: text})));
    part.append(row);
  }
  document.querySelector('article').append(part);
}"""


def pdf(root: str | Path | None = None) -> bool:
    """Print the site into book/_build/seeing-through-compression.pdf; needs Chromium or Chrome.

    Page after page, numbered through, with bookmarks and a list of contents at the end of the first; links between pages stay
    links, those to other files of the site are dropped.
    """
    import yaml
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import ArrayObject, NameObject

    project, executable = Project(root), next(filter(None, map(shutil.which, BROWSERS)), None)
    if not (project.html / "index.html").is_file():
        raise BookError("there is no published site; run 'make book'")
    if executable is None:
        raise BookError(f"none of {', '.join(BROWSERS)} is on this machine; install Chromium to print the book")
    toc, writer, titles, printed = yaml.safe_load((project.book / "_toc.yml").read_bytes()), PdfWriter(), {}, {}
    entries = [entry for part in (toc, *toc.get("parts", [])) for entry in part.get("chapters", [])]
    with sync_playwright() as playwright:
        # Without the argument no page that is opened as a file may load its fonts.
        browser = playwright.chromium.launch(executable_path=executable, args=["--allow-file-access-from-files"])
        names = [toc["root"], *(entry["file"] for entry in entries)]
        first, *others = (f"{project.html.as_uri()}/{name}.html" for name in names)
        for address in [*others, first]:
            tab = browser.new_page()
            tab.goto(address, wait_until="networkidle", timeout=120_000)
            tab.evaluate(READY)
            titles[address] = tab.locator("article h1").first.inner_text().rstrip("#").strip()
            if address != first:
                printed[address] = PdfReader(io.BytesIO(tab.pdf(**PRINT)))
                tab.close()
        starts = dict.fromkeys([first, *others], 0)
        for _ in range(2):  # the first time shows how long the list is
            tab.evaluate(CONTENTS, [[titles[address], starts[address] + 1] for address in others])
            printed[first] = PdfReader(io.BytesIO(tab.pdf(**PRINT)))
            counts = [len(printed[address].pages) for address in starts]
            starts = dict(zip(starts, accumulate(counts, initial=0), strict=False))
        for address in starts:
            writer.append(printed[address], outline_item=titles[address])
        tab.set_content('<p style="break-after:page">\u00a0</p>' * len(writer.pages))
        for page, number in zip(writer.pages, PdfReader(io.BytesIO(tab.pdf(**NUMBERS))).pages, strict=False):
            page.merge_page(number)
            page.compress_content_streams()
    for page in writer.pages:
        kept = ArrayObject()
        for link in page.get("/Annots", ()):
            target = str(link.get_object().get("/A", {}).get("/URI", "")).partition("#")[0]
            if target in starts:
                place = ArrayObject([writer.pages[starts[target]].indirect_reference, NameObject("/Fit")])
                del link.get_object()["/A"]
                link.get_object()[NameObject("/Dest")] = place
            if target in starts or not target.startswith("file:"):
                kept.append(link)
        page[NameObject("/Annots")] = kept
    output = project.build / "seeing-through-compression.pdf"
    writer.write(output)
    print(f"{output}: {len(writer.pages)} pages, {output.stat().st_size / 1e6:.1f} MB")
    return True
