import numpy as np
import pytest

from addlib import miniforensics
from addlib.miniforensics.canvas import SIZE
from addlib.miniforensics.manipulations import (
    MANIPULATIONS,
    Forgery,
    apply,
    match_colour,
    overlap_grid,
)
from addlib.miniforensics.scene import Camera


@pytest.fixture(scope="module")
def videos():
    return miniforensics.render_video(5, 0, 1, 3)


def test_five_with_the_names_of_the_benchmark():
    assert set(MANIPULATIONS) == {"Deepfakes", "Face2Face", "FaceSwap", "FaceShifter", "NeuralTextures"}


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_only_the_face_changes(videos, name):
    for real, fake in zip(videos["original"], videos[name], strict=True):
        changed = np.abs(real.astype(int) - fake).max(2) > 0
        rows, columns = np.nonzero(changed)
        assert 0.01 < changed.mean() < 0.35
        assert rows.min() > 30 and rows.max() < 210 and columns.min() > 30 and columns.max() < 194
        border = np.ones_like(changed)
        border[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = False
        np.testing.assert_array_equal(real[border], fake[border])


def test_reenactment_takes_the_expression_of_the_source(videos):
    # Another source's mouth gives another fake of the same target, and the real video does not depend on it.
    other = miniforensics.render_video(5, 0, 2, 3)
    np.testing.assert_array_equal(videos["original"], other["original"])
    for name in ("Face2Face", "NeuralTextures"):
        assert np.abs(videos[name][0].astype(int) - other[name][0]).max() > 5


def high_band(frame, box):
    """Energy of the finest detail in a box: what differs from a 3×3 mean."""
    import cv2

    left, top, right, bottom = box
    part = frame[top:bottom, left:right].astype(np.float32).mean(2)
    return float(np.mean((part - cv2.blur(part, (3, 3)))[2:-2, 2:-2] ** 2))


@pytest.mark.parametrize("name", ["Deepfakes", "Face2Face", "FaceSwap"])
def test_swaps_lose_fine_detail_in_the_face(name):
    lost = []
    for number in range(0, 20, 2):
        videos = miniforensics.render_video(5, number, number + 1, 1)
        box = (80, 90, 145, 150)
        lost.append(high_band(videos[name][0], box) / high_band(videos["original"][0], box))
    assert np.median(lost) < 0.9


def test_neural_textures_leave_a_grid():
    """Energy at half the sampling rate, in the mouth: more than in the real video."""
    more = []
    for number in range(0, 20, 2):
        videos = miniforensics.render_video(5, number, number + 1, 1)
        energy = []
        for name in ("original", "NeuralTextures"):
            mouth = videos[name][0][132:164, 96:128].astype(float).mean(2)
            spectrum = np.abs(np.fft.fft2(mouth - mouth.mean())) ** 2
            energy.append(spectrum[:, 16].sum() + spectrum[16, :].sum())
        more.append(energy[1] / energy[0])
    assert np.median(more) > 1.5


def test_apply_blends_and_removes_noise():
    camera = Camera(0.5, 0.02)
    real, grain = np.full((SIZE, SIZE, 3), 0.5, np.float32), camera.grain(0, 0, 0)
    mask = np.ones((40, 40), np.float32)
    forgery = Forgery((50, 60, 90, 100), np.full((40, 40, 3), 0.5, np.float32), mask)
    exposed = camera.expose(real, grain)
    frame = apply(forgery, exposed, real, grain, 0.25, camera.expose)
    inside, outside = frame[60:100, 50:90].astype(float).std(), frame[:50].astype(float).std()
    assert inside / outside == pytest.approx(0.25, rel=0.15)
    np.testing.assert_array_equal(apply(None, exposed, real, grain, 0.25, camera.expose), exposed)


def test_match_colour_moves_mean_and_spread():
    rng = np.random.default_rng(0)
    patch, reference = rng.normal(0.3, 0.1, (30, 30, 3)), rng.normal(0.6, 0.12, (30, 30, 3))
    moved = match_colour(patch, reference, np.ones((30, 30)), 1.0)
    np.testing.assert_allclose(moved.mean((0, 1)), reference.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(moved.std((0, 1)), reference.std((0, 1)), rtol=1e-4)


def test_grid_has_the_periods_it_says():
    gain = overlap_grid((0, 0, 64, 64), 0.1, 0.05)
    spectrum = np.abs(np.fft.fft(gain[0] - gain[0].mean()))
    assert set(np.argsort(spectrum)[-3:].tolist()) == {16, 32, 48}
    # The same phase wherever the box is: the grid belongs to the frame.
    np.testing.assert_allclose(overlap_grid((3, 0, 64, 64), 0.1, 0.05), gain[:, 3:])
