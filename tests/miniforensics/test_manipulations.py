import cv2
import numpy as np
import pytest

from addlib import faces, miniforensics
from addlib.miniforensics import MANIPULATIONS


@pytest.fixture(scope="module")
def videos():
    return miniforensics.render_video(5, 0, 1, 3)


@pytest.fixture(scope="module")
def many():
    """First frames of ten targets."""
    return [miniforensics.render_video(5, number, number + 1, 1) for number in range(0, 20, 2)]


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_only_the_face_changes(videos, name):
    for real, fake in zip(videos["original"], videos[name], strict=True):
        changed = np.abs(real.astype(int) - fake).max(2) > 0
        rows, columns = np.nonzero(changed)
        assert 0.01 < changed.mean() < 0.35
        assert rows.min() > 30 and rows.max() < 210 and columns.min() > 30 and columns.max() < 194


def test_reenactment_takes_the_expression_of_the_source(videos):
    # Another source's mouth gives another fake of the same target, and the real video does not depend on it.
    other = miniforensics.render_video(5, 0, 2, 3)
    np.testing.assert_array_equal(videos["original"], other["original"])
    for name in ("Face2Face", "NeuralTextures"):
        assert np.abs(videos[name][0].astype(int) - other[name][0]).max() > 5


@pytest.mark.parametrize("name", ["Deepfakes", "Face2Face", "FaceSwap"])
def test_swaps_lose_fine_detail_in_the_face(many, name):
    def fine(frame):
        part = frame[90:150, 80:145].astype(np.float32).mean(2)
        return np.mean((part - cv2.blur(part, (3, 3)))[2:-2, 2:-2] ** 2)

    assert np.median([fine(videos[name][0]) / fine(videos["original"][0]) for videos in many]) < 0.9


def test_neural_textures_leave_a_grid(many):
    """Energy at half the sampling rate, in the mouth: more than in the real video."""

    def at_half(frame):
        mouth = frame[132:164, 96:128].astype(float).mean(2)
        spectrum = np.abs(np.fft.fft2(mouth - mouth.mean())) ** 2
        return spectrum[:, 16].sum() + spectrum[16, :].sum()

    assert np.median([at_half(videos["NeuralTextures"][0]) / at_half(videos["original"][0]) for videos in many]) > 1.5


# Of the first release: mean, mean difference of neighbouring columns, and of neighbouring rows round the face.
PUBLISHED = {
    "original": (80.927, 4.541, 5.170), "Deepfakes": (80.888, 4.446, 4.971), "Face2Face": (80.896, 4.309, 4.384),
    "FaceSwap": (80.915, 4.367, 4.685), "FaceShifter": (80.812, 4.544, 5.235), "NeuralTextures": (80.977, 4.542, 5.126),
}  # fmt: skip


def test_pictures_are_still_those_that_the_book_was_made_with():
    for name, frames in miniforensics.render_video(0, 12, 34, 2).items():
        pixels = np.stack(frames).astype(int)
        across, down = np.diff(pixels, axis=2), np.diff(pixels[:, 60:180, 60:180], axis=1)
        found = pixels.mean(), np.abs(across).mean(), np.abs(down).mean()
        assert found == pytest.approx(PUBLISHED[name], abs=2e-3), name


@pytest.mark.slow
def test_dlib_finds_the_faces():
    videos = [miniforensics.render_video(11, number, number + 1, 1) for number in range(0, 40, 2)]
    found = [faces.largest_face(frame) is not None for each in videos for (frame,) in each.values()]
    assert np.mean(found) >= 0.95
