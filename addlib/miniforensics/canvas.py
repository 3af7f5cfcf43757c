"""The drawing board: one grid of head coordinates and the few image operations that all drawing uses.

Head coordinates are dimensionless: the origin is the middle of the eye line, x points right, y points down, and one unit is
half the width of the cheeks (``UNIT`` pixels). Images are float32, linear in display values, 0 to 1.
"""

import cv2
import numpy as np

SIZE = 224  # frame side in pixels; a multiple of 16, so that no macroblock is padded
UNIT = 48.0  # pixels of one head unit
CENTRE = (112.0, 100.0)  # pixel (x, y) of the head's origin in the canonical drawing

PIXEL_Y, PIXEL_X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
X, Y = (PIXEL_X - CENTRE[0]) / UNIT, (PIXEL_Y - CENTRE[1]) / UNIT

# Rows and columns of the canonical drawing that hold the face without hair and ears; manipulations work on this part only.
FACE = (
    slice(int(CENTRE[1] - 1.0 * UNIT), int(CENTRE[1] + 1.78 * UNIT)),
    slice(int(CENTRE[0] - 1.1 * UNIT), int(CENTRE[0] + 1.1 * UNIT)),
)


def smoothstep(start, stop, values):
    """Cubic step from 0 at ``start`` to 1 at ``stop`` (either may be the larger)."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x, y, width, height):
    """Gaussian bump of height 1 at head coordinates (x, y); shape (SIZE, SIZE)."""
    return np.exp(-(((X - x) / width) ** 2) - ((Y - y) / height) ** 2)


def rgb(mask):
    """A (h, w) array in all three channels, (h, w, 3). Broadcasting would run inner loops of three elements, ten times slower."""
    return cv2.merge((mask, mask, mask))


def tint(mask, colour):
    """A (h, w) array times a colour, (h, w, 3)."""
    return cv2.merge([mask * part for part in colour])


def blur(image, sigma, sigma_y=0.0):
    """Gaussian blur, ``sigma`` in pixels, mirrored at the border."""
    return cv2.GaussianBlur(image, (0, 0), float(sigma), sigmaY=float(sigma_y), borderType=cv2.BORDER_REFLECT_101)


def band_noise(rng, fine, coarse, shape=(SIZE, SIZE)):
    """White noise band-passed between two blurs (sigmas in pixels), scaled to unit standard deviation."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = blur(noise, fine) - blur(noise, coarse)
    return noise / noise.std()


def pixel(x, y):
    """Head coordinates to the fixed-point pixel coordinates (4 fractional bits) that OpenCV's drawing calls take."""
    return int((CENTRE[0] + x * UNIT) * 16), int((CENTRE[1] + y * UNIT) * 16)


def warp(image, maps, interpolation=cv2.INTER_CUBIC):
    """Sample ``image`` at the positions ``maps`` = (x, y), zero outside."""
    return cv2.remap(image, maps[0], maps[1], interpolation, borderMode=cv2.BORDER_CONSTANT)
