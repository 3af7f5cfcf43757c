"""book/figures.py: theme, grid, tables, sliders. tests/book/test_site.py moves a slider in a browser."""

import base64
import io
import os
import re
import subprocess
import sys
from html import unescape

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from PIL import Image

import figures


def test_a_kernel_draws_twice_the_pixels():
    script = (
        "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()\n"
        "import figures; import matplotlib.pyplot as plt; figures.theme()\n"
        "drawn = shell.display_formatter.format(plt.subplots(figsize=(2, 1))[0], include={'image/png'})\n"
        "data, metadata = (part['image/png'] for part in drawn)\n"
        "import base64; width = int.from_bytes(base64.b64decode(data)[16:20], 'big')\n"
        "print(width / metadata['width'], plt.rcParams['image.interpolation'])"
    )
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.path.dirname(figures.__file__)}
    assert subprocess.check_output([sys.executable, "-c", script], env=environment, text=True) == "2.0 nearest\n"
    assert list(colours := figures.theme()) == ["raw", "c23", "c40"] and len(set(colours.values())) == 3


def test_grid_puts_pictures_and_names_in_place():
    colour, grey = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5))
    names, colours = {"rows": ["a", "b"], "columns": ["x", "y"]}, {"cmap": "magma", "vmin": 0, "vmax": 2}
    _, axes = figures.image_grid([[colour, grey], [None, grey]], **names, **colours)
    assert [axis.get_title() for axis in axes[0]] == ["x", "y"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["a", "b"]
    assert len(axes[1, 0].images) == 0 and axes[0, 0].images[0].get_array().shape == (4, 5, 3)
    assert axes[1, 1].images[0].get_clim() == (0, 2)


def test_panels_are_sharp_described_and_closed():
    before = plt.get_fignums()
    drawn = [plt.subplots(figsize=(3, 2))[0] for _ in range(2)]
    panels = figures.Panels(drawn, ["a < b", "c"])
    assert plt.get_fignums() == before and repr(panels) == "2 panels"
    found = re.findall(r'base64,([^"]*)" alt="(.*?)" style="width:(\d+)px"', panels._repr_html_())
    assert [(alt, int(width)) for _, alt, width in found] == [("a &lt; b", 3 * figures.DPI), ("c", 3 * figures.DPI)]
    assert Image.open(io.BytesIO(base64.b64decode(found[0][0]))).width == 6 * figures.DPI
    with pytest.raises(ValueError):
        figures.Panels(drawn, ["one"])


def test_table_shows_numbers_units_and_what_decides():
    index = pd.MultiIndex.from_tuples([("FaceSwap", "c23"), ("<b>", "c40"), ("x", "raw")], names=["kind", "quality"])
    columns = {"AUC": [0.51234, np.nan, -0.004], "n": [1200, -2, 3], "note": ["a < b", 'c-d "', None], "t": 1.25}
    options = {"decimals": {"AUC": 2}, "units": {"t": "<s>"}, "decisive": [("<b>", "c40"), (("x", "raw"), "note")]}
    table = figures.table(pd.DataFrame(columns, index=index), **options)
    markup = table._repr_html_()
    assert markup.startswith('<table class="dataframe"><thead><tr><th class="text" scope="col">kind, quality</th>')
    entries = re.findall(r'<(t[hd])(?: class="([^"]*)")?[^>]*>(.*?)</t', markup.partition("<tbody>")[2])
    assert [(kind, unescape(said)) for _, kind, said in entries] == [
        ("", "FaceSwap, c23"), ("", "0.51"), ("", "1200"), ("text", "a < b"), ("", "1.2"),
        ("", "<b>, c40"), ("", "–"), ("", "−2"), ("text", 'c-d "'), ("", "1.2"),
        ("", "x, raw"), ("", "0.00"), ("", "3"), ("text decisive", "–"), ("", "1.2"),
    ]  # fmt: skip
    assert '<tr class="decisive"><th scope="row">&lt;b&gt;, c40</th>' in markup and markup.count("decisive") == 2
    assert '<th class="text" scope="col">note</th><th scope="col">t (&lt;s&gt;)</th>' in markup
    assert repr(table) == table.frame.to_string(float_format=lambda value: f"{value:.3g}")
    assert "<td>16,884</td>" in (long := figures.table(pd.DataFrame({"x": [16884, 1234]}))._repr_html_()) and ">1234<" in long
    assert "<td>2</td>" in figures.table(pd.DataFrame({"x": [1.6]}), decimals=0)._repr_html_()
    written = figures.table(pd.DataFrame({"gain": ["-0.5 ± 1.2", "-", "±3"], "as": ["2 of 5", "none", None]}))._repr_html_()
    assert '<td>−0.5 ± 1.2</td><td class="text">2 of 5</td>' in written and "<td>–</td>" in written and "<td>±3</td>" in written


ALT = "A square that grows brighter step by step"
LABELS = ["level 0", "level 1", 'level "2" & more']
SQUARES = [np.full((8, 8, 3), 40 * place, np.uint8) for place in range(3)]


def decoded(slider):
    data = re.findall(r'src="data:image/webp;base64,([^"]+)"', slider._repr_html_())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in data]


def test_slider_holds_every_picture_and_shows_one():
    slider = figures.Slider(SQUARES, LABELS, ALT, name="level", start=1, quality=None)
    np.testing.assert_array_equal(decoded(slider), SQUARES)
    markup = slider._repr_html_()
    images = re.findall(rf'<img [^>]* alt="{ALT} [^>]*>', markup)
    assert [image.endswith(" hidden>") for image in images] == [True, False, True]
    assert "level &quot;2&quot; &amp; more" in markup and 'value="1"' in markup
    # The control waits for a script; nothing is fetched from anywhere.
    assert '<div class="slider-control" hidden>' in markup and "http" not in markup
    pictures = [plt.figure(figsize=(1, 1)), Image.new("RGB", (20, 20)), np.zeros((20, 20), np.uint8)]
    with plt.rc_context({"savefig.dpi": 20}):
        slider = figures.Slider(pictures, LABELS, [ALT] * 3, name="kind")
    assert [each.shape for each in decoded(slider)] == [(20, 20, 3)] * 3
    assert slider.width == 20 and repr(slider).startswith("slider over 3 pictures: kind")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[:2]}, "2 labels"),
        ({"alt": [ALT]}, "1 alts"),
        ({"start": 3}, "start 3"),
        ({"images": np.random.default_rng(0).integers(0, 256, (3, 512, 512, 3), np.uint8)}, "of 1.5 MB"),
    ],
)
def test_slider_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        figures.Slider(**{"images": SQUARES, "labels": LABELS, "alt": ALT, "name": "level", "quality": None} | changes)


def test_pictures_lie_on_light_and_dark_pages_alike():
    figure, axes = figures.image_grid([[np.full((9, 9, 3), 200, np.uint8)]], rows=["row"])
    axes[0, 0].set_title("later")
    axes[0, 0].text(4, 4, "own", color="red")
    figure.savefig(drawn := io.BytesIO(), format="png")
    plt.close(figure)
    assert Image.open(drawn).convert("RGBA").getpixel((0, 0))[3] == 0, "the margin shows the page"
    colours = [text.get_color() for text in axes[0, 0].texts + [axes[0, 0].title, axes[0, 0].yaxis.label]]
    assert colours == ["red", figures.INK, figures.INK]
    white, ink, page = (sns.utils.relative_luminance(colour) + 0.05 for colour in ("#ffffff", figures.INK, "#121212"))
    assert white / ink >= 4.5 and ink / page >= 3.9, "contrast as WCAG 2 defines it"


def turned_dark(colour):
    """What custom.css makes of it in the dark: invert(1) hue-rotate(180deg), by the matrix of the CSS filter effects."""
    across = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    return np.clip(across @ (1 - np.asarray(colour[:3])), 0, 1)


@pytest.mark.parametrize("name", ["PuOr", "viridis", "PuBuGn", "crest", "Greys_r"])
def test_numbers_on_a_heat_map_contrast_with_their_cells(name):
    """On light pages and on dark ones, by at least 3 to 1, as WCAG 2 asks of bold letters."""
    figure, axis = plt.subplots(figsize=(12, 1))
    sns.heatmap(np.linspace(0, 1, 41)[None], vmin=0, vmax=1, cmap=name, annot=True, ax=axis, cbar=False)
    (mesh,), numbers = axis.collections, axis.texts
    figures.Panels([figure], ["A row of cells."])
    assert {number.get_fontweight() for number in numbers} == {"bold"}
    for cell, number in zip(mesh.get_facecolor(), numbers, strict=True):
        ink = mpl.colors.to_rgb(number.get_color())
        for turned in (np.asarray, turned_dark):
            low, high = sorted(sns.utils.relative_luminance(turned(c[:3])) + 0.05 for c in (cell, ink))
            assert high / low >= 3, (cell, number.get_color(), turned.__name__)
