import cv2
import numpy as np
import pytest

from addlib import faces, miniforensics


@pytest.fixture(scope="module")
def frame():
    return miniforensics.render_video(3, 0, 1, 1)["original"][0]


def test_face_is_found_where_it_was_drawn(frame):
    left, top, right, bottom = box = faces.largest_face(frame)
    # The head's origin, between the eyes, is drawn at (112, 100) and moves by a few pixels.
    assert left < 112 < right and top < 100 < bottom and 70 < right - left < 130
    assert all(isinstance(edge, int) for edge in box)
    assert faces.largest_face(np.full((128, 128, 3), 100, np.uint8)) is None
    # Several: the largest first.
    scene = np.full((230, 430, 3), 90, np.uint8)
    scene[:190, :190] = cv2.resize(frame, (190, 190), interpolation=cv2.INTER_AREA)
    scene[:224, 200:424] = frame
    one, other = faces.all_faces(scene)
    assert one == faces.largest_face(scene) and one[0] > 200 > other[0]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((40, 40, 60, 60), (37, 37, 26)),  # inside: 20 × 1.3, same centre
        ((0, 0, 20, 20), (0, 0, 26)),  # moved in at the corner
        ((-10, -10, 10, 10), (0, 0, 26)),  # reaches out of the frame
        ((80, 30, 100, 50), (74, 27, 26)),  # moved in at the right
        ((0, 0, 100, 90), (5, 0, 90)),  # larger than the frame: clipped to its shorter side
        ((10, 10, 30, 20), (7, 2, 26)),  # not square: the longer side counts
    ],
)
def test_square(box, expected):
    assert faces.square(box, (90, 100)) == expected


def test_crop():
    frame = np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8)
    cut = faces.crop(frame, (40, 40, 60, 60), size=26)
    np.testing.assert_array_equal(cut, frame[37:63, 37:63])
    cut[:] = 0
    assert frame[37:63, 37:63].any(), "a copy where no pixel is resampled"
    for size in (13, 128):
        assert faces.crop(frame, (40, 40, 60, 60), size=size).shape == (size, size, 3)


def test_bad_input_is_named(frame):
    with pytest.raises(ValueError, match="float"):
        faces.largest_face(frame / 255)
    with pytest.raises(ValueError, match="upsample -1"):
        faces.all_faces(frame, upsample=-1)
    with pytest.raises(ValueError, match="empty"):
        faces.crop(frame, (5, 5, 5, 9))


def test_large_frames_are_searched_on_a_small_copy(frame):
    large = cv2.resize(frame, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    small = np.array(faces.largest_face(frame))
    assert np.abs(np.array(faces.largest_face(large, search=224)) / 5 - small).max() < 8
    assert faces.largest_face(frame, search=480) == tuple(small), "small frames are searched as they are"


def test_doubling_finds_smaller_faces(frame):
    tiny = cv2.resize(frame, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    left, _, right, _ = faces.largest_face(tiny, upsample=1)
    assert faces.largest_face(tiny) is None and left < 112 * 0.6 < right
    # A doubling counts from the copy that is searched.
    large = cv2.resize(frame, (896, 896), interpolation=cv2.INTER_CUBIC)
    assert faces.largest_face(large, search=120) is None and faces.largest_face(large, search=120, upsample=1)
