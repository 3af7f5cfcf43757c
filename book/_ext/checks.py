"""Sphinx extension: what every page of the book must be, whoever wrote it.

Described images, or the build fails. MathJax from this site. No Thebe: Jupyter Book loads it although the launch
buttons switch it off; its scripts declare the same constants twice, which is an error on the console of every page, and
name a remote server. No roles that mislead a screen reader: docutils calls a bibliography a list whose entries are no
list items; without those roles it is read as the paragraphs that it is.
"""

import re
import shutil
from importlib.metadata import files
from pathlib import Path

from docutils import nodes
from sphinx.util import logging

SHORTEST = 20  # characters of alt text; less names a picture but does not describe it
_LOGGER = logging.getLogger(__name__)
_CONFIG = re.compile(r"<script type=\"text/x-thebe-config\">.*?</script>|<script>kernelName = '[^']*'</script>", re.S)
_ROLES = re.compile(r' role="(?:list"(?= class="citation-list")|doc-biblioentry"|doc-backlink")')


def setup(app) -> dict:
    app.connect("doctree-read", _describe_images)
    # Late, after every other extension has added what it wants.
    app.connect("html-page-context", _clean, priority=900)
    app.connect("build-finished", _copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _describe_images(app, doctree) -> None:
    """Warn, and so fail the build, where an image lacks alt text, or several of one cell share it."""
    for image in doctree.findall(nodes.image):
        line = image.line or getattr(image.parent, "line", None) or 0
        where = f"cell {line // 10000}" if line >= 10000 else f"line {line}"  # myst-nb counts so
        if len((image.get("alt") or "").strip()) < SHORTEST:
            _LOGGER.warning(
                f"{app.env.docname}, {where}: an image has the alt text {image.get('alt', '')!r}; say what is seen in "
                f"{SHORTEST} characters or more, under mystnb.image.alt in the cell's metadata or as ':alt:'"
            )
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code_output" and len(list(cell.findall(nodes.image))) > 1:
            _LOGGER.warning(f"{app.env.docname}: several images of one cell share an alt text; show one figure a cell")


def _clean(app, pagename, templatename, context, doctree) -> None:
    context["script_files"] = [script for script in context.get("script_files", []) if not _is_thebe(script)]
    if "body" in context:
        context["body"] = _ROLES.sub("", _CONFIG.sub("", context["body"]))


def _is_thebe(script) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "thebe" in str(getattr(script, "filename", script) or "").lower() or "THEBE_JS_URL" in body


def _copy_mathjax(app, exception) -> None:
    """MathJax's one-file build (all of TeX, SVG output), as the installed package brings it; it loads no further file."""
    if exception or app.builder.format != "html":
        return
    (source,) = [file for file in files("sphinx-mathjax-offline") if file.name == "tex-svg-full.js"]
    target = Path(app.outdir, "_static", "mathjax", source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.locate(), target)
