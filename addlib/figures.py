"""One look for all figures of the book, and the grid of pictures that chapters share."""

import sys

import numpy as np

QUALITY_ORDER = ("raw", "c23", "c40")
DPI = 90  # seven inches fill the column of a page


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
    import matplotlib.pyplot as plt

    height, width = len(images), max(map(len, images))
    figure, axes = plt.subplots(height, width, figsize=(side * width, side * height + 0.25), squeeze=False)
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
