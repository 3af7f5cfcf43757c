"""Eyes and mouth, drawn into a copy of the skin for each frame: they carry the expression."""

import numpy as np

from .canvas import CENTRE, FACE, UNIT, X, Y, rgb, smoothstep, tint

WHITE, RED, ENAMEL, THROAT = np.array(
    [[0.70, 0.67, 0.64], [0.62, 0.30, 0.30], [0.76, 0.73, 0.66], [0.14, 0.05, 0.05]], np.float32
)


def _window(skin, left, top, right, bottom):
    """The part of ``skin`` between head coordinates, and its x and y."""
    top, bottom = int(CENTRE[1] + top * UNIT), int(CENTRE[1] + bottom * UNIT)
    left, right = int(CENTRE[0] + left * UNIT), int(CENTRE[0] + right * UNIT)
    y, x = FACE[0].start, FACE[1].start
    part = np.s_[top:bottom, left:right]
    return skin[top - y : bottom - y, left - x : right - x], X[part], Y[part]


def draw_eyes(skin, person, pose):
    """Draw both eyes in place into ``skin``, the crop ``FACE`` of the canonical drawing, (h, w, 3)."""
    s = person.shape
    width, height = s["eye_width"], s["eye_height"]
    for side in (-1, 1):
        at = side * s["eye_x"]
        patch, x, y = _window(skin, at - 0.34, -0.24, at + 0.34, 0.24)
        x = x - at
        y = y - side * x * s["eye_tilt"] * 0.6
        oval = np.clip(1 - (x / width) ** 2, 0, 1)
        upper = -height * oval**0.8 * (1 - pose.blink) + 0.25 * height * pose.blink * oval
        lower = 0.62 * height * oval
        opening = smoothstep(-0.014, 0.014, y - upper) * smoothstep(-0.014, 0.014, lower - y) * (np.abs(x) < width)
        xi, yi = x - 0.05 * pose.gaze_x, y + 0.005 - 0.03 * pose.gaze_y
        radius = np.sqrt(xi * xi + yi * yi) / (1.05 * height)
        iris = rgb(1 - smoothstep(0.85, 1.05, radius))
        pupil = rgb(1 - smoothstep(0.35, 0.48, radius))
        rays = 0.12 * np.sin(13 * np.arctan2(yi, xi) + person.traits.key[1])
        white = tint(1 - 0.35 * (x / width) ** 2 - 0.30 * smoothstep(0.03, -0.02, y - upper), WHITE)
        ring = 1 + rays - 0.5 * smoothstep(0.75, 0.95, radius) + 0.3 * smoothstep(0.3, 0.8, radius)
        eye = white * (1 - iris) + tint(ring, person.traits.iris) * iris
        eye = eye * (1 - pupil) + 0.03 * pupil
        glint = rgb(0.85 * np.exp(-(((xi - 0.02) ** 2 + (yi + 0.03) ** 2) / 0.014**2)))
        eye = eye * (1 - glint) + 0.9 * glint
        patch *= rgb(1 - 0.35 * np.exp(-(((y + 1.45 * height) / 0.022) ** 2)) * oval)  # fold of the lid
        cover = rgb(opening)
        patch[:] = patch * (1 - cover) + eye * cover
        lashes = 0.85 * np.exp(-(((y - upper) / 0.020) ** 2)) + 0.3 * np.exp(-(((y - lower) / 0.015) ** 2))
        lashes = lashes * (oval > 0.02) * np.minimum(1, 4 * oval)
        patch *= rgb(1 - np.clip(lashes, 0, 0.9))


def draw_mouth(skin, person, pose):
    """Draw lips, gap and teeth in place into ``skin``, the crop ``FACE`` of the canonical drawing, (h, w, 3)."""
    s = person.shape
    width = s["mouth_width"] * (1 + 0.22 * pose.smile)
    patch, x, y = _window(skin, -0.62, s["mouth_y"] - 0.3, 0.62, s["mouth_y"] + 0.45)
    y = y - s["mouth_y"] + 0.10 * pose.smile * (x / width) ** 2 - 0.02 * pose.smile
    oval = np.clip(1 - (x / width) ** 2, 0, 1)
    inside = np.abs(x) < width
    top, bottom = -0.25 * pose.mouth_open * oval, 0.9 * pose.mouth_open * oval**0.7
    upper = top - s["upper_lip"] * oval**0.7 * (1 - 0.25 * np.exp(-((x / 0.06) ** 2)))
    lower = bottom + s["lower_lip"] * oval**0.8
    lips = rgb(0.9 * (smoothstep(-0.015, 0.015, y - upper) * smoothstep(-0.015, 0.015, lower - y) * inside))
    gap = smoothstep(-0.012, 0.012, y - top) * smoothstep(-0.012, 0.012, bottom - y) * inside
    gap = rgb(gap * min(1, 40 * pose.mouth_open))
    red = RED * (0.45 + 0.75 * person.skin.mean())
    shade = 1 - 0.22 * smoothstep(0.02, -0.03, y - top)
    shade = shade + 0.10 * np.exp(-(((y - bottom - 0.4 * s["lower_lip"]) / 0.03) ** 2))
    shade = shade * (1 + 0.06 * np.sin(110 * x + 7 * np.sin(person.traits.key[1])))
    colour = tint(shade, person.skin * (1 - s["lip_red"]) * 0.86 + red * s["lip_red"])
    patch[:] = patch * (1 - lips) + colour * lips
    teeth = smoothstep(0, 0.02, y - top) * smoothstep(0, 0.02, top + 0.10 - y) * (np.abs(x) < 0.8 * width)
    enamel = tint(1 - 0.25 * np.exp(-((((12 * x) % 1 - 0.5) / 0.08) ** 2)), ENAMEL)
    hollow = tint(1 - teeth, THROAT) + 0.85 * enamel * rgb(teeth)
    patch[:] = patch * (1 - gap) + hollow * gap
    line = np.exp(-(((y - (top + bottom) / 2) / 0.018) ** 2)) * inside * (1 - min(1, 25 * pose.mouth_open)) * oval**0.3
    corners = np.exp(-(((np.abs(x) - width) / 0.035) ** 2) - (y / 0.035) ** 2)
    patch *= rgb((1 - 0.6 * line) * (1 - 0.35 * corners))
