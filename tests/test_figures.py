import os
import subprocess
import sys

import matplotlib
import numpy as np

matplotlib.use("Agg")

from addlib import figures


def test_theme_names_a_colour_for_each_quality():
    colours = figures.theme()
    assert list(colours) == ["raw", "c23", "c40"] and len(set(colours.values())) == 3
    assert matplotlib.rcParams["image.interpolation"] == "nearest"


def test_a_kernel_draws_twice_the_pixels():
    script = (
        "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()\n"
        "from addlib import figures; import matplotlib.pyplot as plt; figures.theme()\n"
        "drawn = shell.display_formatter.format(plt.subplots(figsize=(2, 1))[0], include={'image/png'})\n"
        "data, metadata = (part['image/png'] for part in drawn)\n"
        "import base64; width = int.from_bytes(base64.b64decode(data)[16:20], 'big')\n"
        "print(width / metadata['width'])"
    )
    environment = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) == 2


def test_grid_puts_pictures_and_names_in_place():
    colour, grey = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5))
    names = {"rows": ["a", "b"], "columns": ["x", "y"]}
    _, axes = figures.image_grid([[colour, grey], [None, grey]], **names, cmap="magma", vmin=0, vmax=2)
    assert [axis.get_title() for axis in axes[0]] == ["x", "y"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["a", "b"]
    assert len(axes[1, 0].images) == 0 and axes[0, 0].images[0].get_array().shape == (4, 5, 3)
    assert axes[1, 1].images[0].get_clim() == (0, 2)
