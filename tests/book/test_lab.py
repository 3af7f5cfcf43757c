"""The chapters in JupyterLab, opened by `make lab` in a copy of book/ and seen through headless Chromium.

All are opened, two are run; with LAB_CHAPTERS=all every one, which takes a minute a chapter on a slow machine.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
RUN = ["05-optimal-transport-and-slices", "how-to-the-losses-in-your-own-loop"]  # they need no data
RUN = CHAPTERS if os.environ.get("LAB_CHAPTERS") == "all" else RUN
SLIDER = """import numpy as np
from figures import Slider
Slider([np.full((40, 60, 3), 60 * place, np.uint8) for place in range(3)], ["a", "b", "c"], "A grey square", name="Grey")"""
PATIENCE = 300  # seconds
READY = "opened.sessionContext.ready"  # of a kernel; what is run before may never end
# Kept by hand: which widget JupyterLab calls the current one hangs on the focus, and may be none for a moment.
OPEN = "async path => { await jupyterapp.restored; window.opened = await jupyterapp.commands.execute('docmanager:open', {path}) }"
# With its kernel: one each is more than a small machine has room for.
CLOSE = "async () => { opened.dispose(); await jupyterapp.serviceManager.sessions.shutdownAll() }"
SETTINGS = '{"windowingMode": "none"}'  # every cell is there, not only those that a window shows
# Of the open notebook: whether all prose is set, and all code has run; what stands there, and what outputs hold.
CELLS = "const cells = opened.content.widgets;"
SET = f"() => {{ {CELLS} return cells.every(cell => cell.model.type != 'markdown' || cell.node.querySelector('.myst')) }}"
DONE = f"""() => {{ {CELLS} return cells.every(
    cell => cell.model.type != 'code' || cell.model.executionCount || !cell.model.sharedModel.source.trim()
) || cells.some(cell => cell.model.outputs?.toJSON().some(e => e.output_type == 'error')) }}"""
LOOK = f"""() => {{
    {CELLS}
    const all = selector => cells.flatMap(cell => [...cell.node.querySelectorAll(selector)]).filter(e => e.getBoundingClientRect().height);
    return {{
        prose: all('.myst').map(e => e.innerText).join('\\n'),
        faults: all('.myst [class*=text-red]').map(e => e.parentElement.title || e.innerText),
        signs: all('.myst .text-yellow-600 > svg').length,
        boxes: all('.myst aside').filter(e => !e.innerText.trim()).length,
        errors: cells.flatMap(cell => cell.model.outputs?.toJSON() || []).filter(e => e.output_type == 'error').map(e => e.evalue),
    }};
}}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab that `make lab` started in a copy, with a home of its own."""
    copy = tmp_path_factory.mktemp("lab") / "a project"
    shutil.copytree(ROOT / "book", copy / "book", ignore=shutil.ignore_patterns("_build", "__pycache__"))
    for name in ("Makefile", "_config.yml", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    slider = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLIDER)], metadata=kernel)
    nbformat.write(slider, copy / "book" / "slider.ipynb")
    (copy / "data").symlink_to(ROOT / "data")
    (copy / "installed").touch()  # as if by `make install`
    settings = copy / "home" / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(SETTINGS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "JUPYTER"))}
    environment |= dict.fromkeys(["HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"], str(copy / "home"))
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(copy / "book")]), "ADDLIB_PROFILE": "smoke"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    options = f"--no-browser --ServerApp.port={address.rpartition(':')[2]} --ServerApp.port_retries=0 --expose-app-in-browser"
    command = ["make", "lab", f"BIN={os.path.relpath(Path(sys.executable).parent, copy)}", "STAMP=installed"]
    command.append(f"LAB={options} --IdentityProvider.token=")
    with (copy / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=copy, env=environment, stdout=log, stderr=log, start_new_session=True)
    limit = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status").close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < limit, (copy / "log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.fixture(scope="module")
def tab(browser, lab):
    """A tab that lets nothing through to elsewhere, and keeps what was asked for there."""
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    tab.set_default_timeout(1000 * PATIENCE)
    tab.foreign, own = [], (lab, lab.replace("http", "ws"), "data:", "blob:")

    def guard(route):
        if route.request.url.startswith(own):
            route.continue_()
        else:
            tab.foreign.append(route.request.url)
            route.abort()

    tab.route("**/*", guard)
    tab.goto(f"{lab}/lab/workspaces/test?reset")
    tab.wait_for_function("() => window.jupyterapp")
    yield tab
    tab.close()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_reads_and_runs_in_jupyterlab(tab, name):
    tab.evaluate(OPEN, f"{name}.ipynb")
    try:
        tab.wait_for_selector(".jp-Notebook .myst h1")
        tab.wait_for_function(SET, polling=500)
        seen = tab.evaluate(LOOK)
        assert tab.locator(".jp-Dialog, .Toastify__toast").count() == 0, "a question or news before the reader has asked"
        assert len(seen["prose"]) > 2000
        assert not re.search(r":::|```|\{(cite|eq|numref|ref|prf|admonition|exercise|math)\b", seen["prose"])
        assert (seen["faults"], seen["signs"], seen["boxes"]) == ([], 0, 0), "equations not set, warning signs, empty boxes"
        if name in RUN:
            tab.evaluate(READY)
            tab.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
            tab.wait_for_function(DONE, polling=500)
            assert tab.evaluate(LOOK)["errors"] == []
        assert tab.foreign == []
    finally:  # one that fails must not lie beneath the others
        tab.evaluate(CLOSE)


@pytest.mark.browser
@pytest.mark.slow
def test_a_slider_works_in_jupyterlab(tab):
    """Its cell run, the keyboard moves it; opened again from the file, it still does."""
    for first in (True, False):
        tab.evaluate(OPEN, "slider.ipynb")
        tab.wait_for_selector(".jp-CodeCell")
        if first:
            tab.evaluate(READY)
            tab.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        control, shown = tab.locator(".slider").get_by_label("Grey"), tab.locator(".slider img:visible")
        control.wait_for()
        assert shown.evaluate_all("e => e.map(e => e.dataset.label)") == ["a"]
        control.focus()
        tab.keyboard.press("ArrowRight")
        assert shown.evaluate_all("e => e.map(e => e.dataset.label)") == ["b"]
        assert tab.locator(".slider output").inner_text() == "b"
        tab.evaluate("jupyterapp.commands.execute('docmanager:save')")
        tab.evaluate(CLOSE)
