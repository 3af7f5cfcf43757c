"""addlib.sliders: what a slider is made of, and what it refuses. tests/book/test_site.py moves one in a browser."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from addlib.sliders import LIMIT, Slider

ALT = "A square that grows brighter step by step"
LABELS = ["level 0", "level 1", 'level "2" & more']


def squares(count=3, side=8):
    return [np.full((side, side, 3), 40 * place, np.uint8) for place in range(count)]


def decoded(markup):
    data = re.findall(r'src="data:image/webp;base64,([^"]+)"', markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in data]


def test_holds_every_picture_and_shows_one():
    markup = Slider(squares(), LABELS, ALT, name="level", start=1, quality=None)._repr_html_()
    for got, expected in zip(decoded(markup), squares(), strict=True):
        np.testing.assert_array_equal(got, expected)
    images = re.findall(r"<img [^>]*>", markup)
    assert [image.endswith(" hidden>") for image in images] == [True, False, True]
    assert all(f'alt="{ALT} (level ' in image for image in images)
    assert "level &quot;2&quot; &amp; more" in markup and 'value="1"' in markup
    # The control waits for a script; nothing is fetched from anywhere.
    assert '<div class="slider-control" hidden>' in markup and "http" not in markup


def test_takes_figures_pil_images_and_grey_arrays():
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(1, 1), dpi=20)
    slider = Slider([figure, Image.new("RGB", (20, 20)), np.zeros((20, 20), np.uint8)], LABELS, [ALT] * 3, name="kind")
    plt.close(figure)
    assert [each.shape for each in decoded(slider._repr_html_())] == [(20, 20, 3)] * 3
    assert slider.width == 20 and repr(slider).startswith("slider over 3 pictures: kind")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"labels": LABELS[:2]}, "2 labels"), ({"alt": [ALT]}, "1 alts"), ({"start": 3}, "count from 0")],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        Slider(**{"images": squares(), "labels": LABELS, "alt": ALT, "name": "level", **changes})


def test_refuses_more_than_a_phone_can_bear():
    noise = np.random.default_rng(0).integers(0, 256, (3, 512, 512, 3), np.uint8)
    with pytest.raises(ValueError, match=f"allowed are {LIMIT / 1e6} MB"):
        Slider(list(noise), LABELS, ALT, name="noise", quality=None)
