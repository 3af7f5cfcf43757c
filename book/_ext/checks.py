"""Sphinx extension of the book: keeps Thebe off the pages, and roles that mislead a screen reader.

Jupyter Book loads sphinx-thebe although the launch buttons switch it off. Its scripts declare the same constants
twice, which is an error on the console of every page, and name a remote server. docutils calls a bibliography a list
whose entries are no list items; without those roles it is read as the paragraphs that it is.
"""

import re

_CONFIG = re.compile(r"<script type=\"text/x-thebe-config\">.*?</script>|<script>kernelName = '[^']*'</script>", re.S)

_ROLES = re.compile(r' role="(?:list"(?= class="citation-list")|doc-biblioentry"|doc-backlink")')


def setup(app) -> dict:
    # Late, after every other extension has added what it wants.
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("html-page-context", _without_roles, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _without_thebe(app, pagename, templatename, context, doctree) -> None:
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if not _is_thebe(script)]
    if "body" in context:
        context["body"] = _CONFIG.sub("", context["body"])


def _without_roles(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = _ROLES.sub("", context["body"])


def _is_thebe(script) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "thebe" in str(getattr(script, "filename", script) or "").lower() or "THEBE_JS_URL" in body
