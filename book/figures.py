"""One look for all figures and tables of the book, and a slider over pictures that works on a published page."""

import base64
import io
import re
import sys
from collections.abc import Sequence
from functools import cache
from html import escape

import numpy as np

QUALITY_ORDER = ("raw", "c23", "c40")
MANIPULATION_ORDER = ("NeuralTextures", "Deepfakes", "Face2Face", "FaceSwap", "FaceShifter")  # of colours and markers
DPI = 90  # seven inches fill the column of a page
SLIDER_BYTES = 1_500_000  # as a page on a phone can bear
INK = "#767676"  # as dark on white as text has to be (4.5 to 1), and nearly as bright on a dark page


def theme() -> dict[str, tuple]:
    """Set seaborn's theme for a chapter: readable at the width of a page, colour-blind safe. Returns the palette by quality.

    In a notebook figures are drawn with twice the pixels that they are shown with, so that they are sharp on any screen.
    """
    import seaborn as sns

    settings = {"figure.dpi": DPI, "savefig.dpi": DPI, "figure.constrained_layout.use": True, "axes.titlesize": 11}
    settings |= {"figure.facecolor": "white", "image.interpolation": "nearest"}
    sns.set_theme(style="whitegrid", palette="colorblind", rc=settings)
    # Outside a kernel there is no IPython, and nothing that shows a figure by itself.
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")
    colours = sns.color_palette("colorblind")
    return dict(zip(QUALITY_ORDER, (colours[2], colours[0], colours[3]), strict=True))


def image_grid(images, *, rows=None, columns=None, side=1.5, cmap=None, vmin=None, vmax=None):
    """Draw a grid of pictures with names along its edges; returns the figure and the array of its axes.

    Args:
        images: list of rows, each a list of (H, W, 3) uint8 or (H, W) float arrays; None leaves a place empty.
        rows, columns: names.
        side: of a picture in inches.
        cmap, vmin, vmax: for the (H, W) ones.
    """
    height, width = len(images), max(map(len, images))
    figure, axes = picture_axes(height, width, figsize=(side * width, side * height + 0.25), squeeze=False)
    for (i, j), axis in np.ndenumerate(axes):
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
        if j < len(images[i]) and images[i][j] is not None:
            axis.imshow(images[i][j], cmap=cmap, vmin=vmin, vmax=vmax)
    for axis, name in zip(axes[0], columns or (), strict=False):
        axis.set_title(name, fontsize=9)
    for axis, name in zip(axes[:, 0], rows or (), strict=False):
        axis.set_ylabel(name, fontsize=9)
    return figure, axes


def picture_axes(*args, **how):
    """As ``plt.subplots``, for pictures and heat maps: without a background and in grey ink, so that light and dark pages suit them.

    Charts need it not: dark pages turn them dark (class ``chart``), which would turn pictures into negatives.
    """
    import matplotlib.pyplot as plt

    return plt.subplots(*args, FigureClass=_figure_for_any_page(), **how)


@cache
def _figure_for_any_page():
    from matplotlib import rcParams
    from matplotlib.colors import same_color
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class FigureForAnyPage(Figure):
        def __init__(self, *args, **how):
            super().__init__(*args, **how)
            self.set_facecolor("none")

        def draw(self, renderer):  # the last moment, when all that has a colour of its own has it
            for axis in self.axes:
                axis.set_facecolor("none")
                axis.tick_params(colors=INK)
            for text in self.findobj(Text):
                if any(same_color(text.get_color(), rcParams[ink]) for ink in ("text.color", "axes.labelcolor")):
                    text.set(color=INK, weight="bold")  # thin letters would be greyer still
            super().draw(renderer)

    return FigureForAnyPage


def table(frame, *, decimals: int | dict = 1, units: dict | None = None, decisive=()):
    """A data frame as a table of the page; it shows itself when it is the last line of a cell.

    Args:
        frame: its index names the rows.
        decimals: of floats; one for all, or by column, 1 where none is named.
        units: by column, such as ``{"time": "s"}``.
        decisive: what to mark: names of rows, and pairs of a row and a column.
    """
    return Table(frame, decimals if isinstance(decimals, dict) else dict.fromkeys(frame, decimals), units, decisive)


class Table:
    """What :func:`table` returns."""

    def __init__(self, frame, decimals, units, decisive):
        self.frame, self.decimals, self.units, self.decisive = frame, decimals, units or {}, set(decisive)

    def __repr__(self) -> str:  # what nbval compares
        return self.frame.to_string(float_format=lambda value: f"{value:.3g}")

    def _repr_html_(self) -> str:
        from pandas.api.types import is_numeric_dtype

        names = list(self.frame)
        # Numbers that are written out, such as intervals, stand at the right as well.
        kinds = ["" if is_numeric_dtype(each) or all(map(_is_number, each)) else "text" for _, each in self.frame.items()]
        heads = [_words(name) + (f" ({self.units[name]})" if name in self.units else "") for name in names]
        head = _tag("th", escape(_words(self.frame.index.names)), "text", 'scope="col"')
        head += "".join(_tag("th", escape(name), kind, 'scope="col"') for name, kind in zip(heads, kinds, strict=True))
        body = ""
        for index, values in zip(self.frame.index, self.frame.itertuples(index=False), strict=True):
            row = _tag("th", escape(_words(index)), "", 'scope="row"')
            for name, kind, value in zip(names, kinds, values, strict=True):
                marked = " decisive" if (index, name) in self.decisive else ""
                row += _tag("td", escape(self._shown(value, name)), kind + marked)
            body += _tag("tr", row, "decisive" if index in self.decisive else "")
        return _tag("table", _tag("thead", _tag("tr", head)) + _tag("tbody", body), "dataframe")

    def _shown(self, value, column):
        from pandas import isna

        if isna(value):
            return "–"
        if isinstance(value, str):
            return "–" if value == "-" else value.replace("-", "−") if _is_number(value) else value
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (float, int, np.integer)):
            return str(value)
        comma = "," if abs(value) >= 10_000 else ""  # 1234 is read at a glance, and may be a year
        places = self.decimals.get(column, 1) if isinstance(value, float) else 0
        return f"{value:z{comma}.{places}f}".replace("-", "−")


def _is_number(value):
    """Or a text that begins as one, or says that there is none."""
    return not isinstance(value, str) or bool(re.match(r"[-−+±×]? ?\d|[-–]?$", value))


def _words(name):
    return ", ".join(str(part) for part in name if part is not None) if isinstance(name, (tuple, list)) else str(name)


def _tag(tag, content, kind="", more=""):
    kind = f'class="{kind.strip()}"' if kind else ""
    return f"<{' '.join(filter(None, (tag, kind, more)))}>{content}</{tag}>"


class Panels:
    """Figures side by side where the page has room, one below the other on a phone.

    Args:
        drawn: matplotlib figures, three to four inches wide so that they can be read there; they are closed.
        alts: description of each for who cannot see it.
        kind: "chart", which dark pages turn dark, or "picture", such as a heat map.
    """

    def __init__(self, drawn: Sequence, alts: Sequence[str], *, kind: str = "chart"):
        import matplotlib.pyplot as plt

        self.kind = kind
        self.alts = [alt for _, alt in zip(drawn, alts, strict=True)]
        for each in drawn:
            _ink_numbers(each)
        self.pictures, self.widths = zip(*(_webp(each, None, dpi=2 * DPI) for each in drawn), strict=True)
        for each in drawn:
            plt.close(each)

    def __repr__(self) -> str:
        return f"{len(self.alts)} panels"

    def _repr_html_(self) -> str:
        together = zip(self.pictures, self.widths, self.alts, strict=True)
        return _tag(
            "div",
            "".join(
                f'<img class="{self.kind}" src="data:image/webp;base64,{data}" alt="{escape(alt)}" style="width:{width // 2}px">'
                for data, width, alt in together
            ),
            "panels",
        )


def _ink_numbers(figure):
    """Numbers on a heat map in black or white, whichever contrasts more with their cell, in the light and turned dark."""
    from matplotlib.collections import QuadMesh
    from seaborn.utils import relative_luminance

    for axis in figure.axes:
        for mesh in axis.collections:
            if isinstance(mesh, QuadMesh):
                mesh.update_scalarmappable()
                cells = mesh.get_facecolor().reshape(*mesh.get_array().shape, 4)
                for number in axis.texts:
                    column, row = map(int, number.get_position())
                    number.set_color("black" if relative_luminance(cells[row, column]) > 0.25 else "white")
                    number.set_fontweight("bold")


class Slider:
    """Pictures of one quantity and the control that chooses among them, for a page without a kernel.

    Without scripts, and on paper, the picture that was shown first stands there alone.

    Args:
        images: pictures, each (H, W) or (H, W, 3) uint8, a matplotlib figure, or a PIL image.
        labels: what the control reads out for each picture, such as "rate factor 23".
        alt: description of the pictures for who cannot see them; one for all, or one for each.
        name: of the quantity, beside the control.
        start: index of the picture shown first.
        width: of the picture on the page, in CSS pixels; its own width in pixels if None.
        quality: of the WebP encoding, 1 to 100; None keeps every pixel as it is.
        kind: "chart", which dark pages turn dark, or "picture".

    Raises:
        ValueError: the numbers differ, start names no picture, or the pictures exceed 1.5 MB.
    """

    def __init__(
        self, images: Sequence, labels: Sequence[str], alt: str | Sequence[str], *, name: str, start: int = 0,
        width: int | None = None, quality: int | None = 85, kind: str = "picture",
    ):  # fmt: skip
        alts = [f"{alt} ({label})" for label in labels] if isinstance(alt, str) else list(alt)
        if not len(images) == len(labels) == len(alts) > 0 or not 0 <= start < len(images):
            raise ValueError(f"got {len(images)} images, {len(labels)} labels, {len(alts)} alts and start {start}")
        self.labels, self.alts, self.name, self.start, self.kind = list(labels), alts, name, start, kind
        self.pictures, widths = zip(*(_webp(image, quality) for image in images), strict=True)
        self.width = width or widths[0]
        if (size := len(self._repr_html_())) > SLIDER_BYTES:
            raise ValueError(
                f"the slider takes {size / 1e6:.1f} of {SLIDER_BYTES / 1e6} MB; use fewer or smaller pictures"
            )

    def __repr__(self) -> str:
        return f"slider over {len(self.labels)} pictures: {self.name}, {self.labels[0]} to {self.labels[-1]}"

    def _repr_html_(self) -> str:
        style = f"width:{self.width}px;max-width:100%;height:auto"
        pictures = "".join(
            f'<img class="{self.kind}" src="data:image/webp;base64,{data}" alt="{escape(alt)}" '
            f'data-label="{escape(label)}" style="{style}"'
            f"{'' if place == self.start else ' hidden'}>"
            for place, (data, label, alt) in enumerate(zip(self.pictures, self.labels, self.alts, strict=True))
        )
        choose = (
            "const box=this.closest('.slider'),all=box.querySelectorAll('img');"
            "all.forEach((each,i)=>{each.hidden=i!=this.value});const label=all[this.value].dataset.label;"
            "this.setAttribute('aria-valuetext',label);box.querySelector('output').value=label"
        )
        first = escape(self.labels[self.start])
        # The control is hidden until a script, which is what it needs, shows it. JupyterLab would take the arrow keys.
        return (
            f'<div class="slider">{pictures}<div class="slider-control" hidden><label>{escape(self.name)} '
            f'<input type="range" data-lm-suppress-shortcuts="true" min="0" max="{len(self.labels) - 1}" value="{self.start}" '
            f'aria-valuetext="{first}" oninput="{escape(choose)}"></label> <output aria-live="polite">{first}</output></div>'
            "<script>document.currentScript.previousElementSibling.hidden=false</script></div>"
        )


def _webp(image, quality, **drawn):
    """As base64, and the width in pixels; ``drawn`` says how a figure is saved."""
    from PIL import Image

    buffer, encoded = io.BytesIO(), io.BytesIO()
    if hasattr(image, "savefig"):
        image.savefig(buffer, format="png", **drawn)
        image = Image.open(buffer)
    elif not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    # The best effort (method 6, and quality 100 where nothing is lost) takes twenty times as long for two bytes in a hundred.
    image.save(encoded, "WEBP", lossless=quality is None, quality=quality or 75, method=4)
    return base64.b64encode(encoded.getvalue()).decode(), image.width
