import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from addlib.clips import open_clip
from addlib.faceforensics.matching import by_time, match, other_moment, thumbnail
from addlib.video import VideoError


@pytest.fixture
def clip(tmp_path, walk, write_timed):
    def make(name, stamps, rate=25):
        write_timed(tmp_path / name, [walk[number % 12] for number in range(len(stamps))], stamps, rate=rate)
        return open_clip(tmp_path / name)

    return make


GAP = [number for number in range(24) if number != 5]


@pytest.mark.parametrize(
    ("raw", "stamps", "rate", "expected"),
    [
        (12, range(12), 25, range(12)),
        (12, range(12), 30, range(12)),  # shown faster, as when fakes take another frame rate: the number decides
        (24, GAP, 25, [0, 1, 2, 3, 4, None, *range(5, 23)]),  # a dropped frame is stepped over
        (12, range(24), 50, range(0, 24, 2)),  # frames doubled at twice the rate
        (12, range(40, 53), 25, range(12)),  # a late start is taken off
    ],
)
def test_frames_of_the_same_moment(clip, raw, stamps, rate, expected):
    found, note = match(clip("raw.mp4", range(raw)), clip("other.mp4", stamps, rate))
    assert found == {number: partner for number, partner in enumerate(expected) if partner is not None}
    assert note == ("" if len(stamps) == raw else f"{len(found)} of {raw} frames aligned by presentation time")


def test_what_cannot_be_matched_is_refused(clip):
    raw, other = clip("raw.mp4", range(12)), clip("other.mp4", range(6))
    with pytest.raises(VideoError, match=r"raw has 12; only 6 agree in presentation time"):
        match(raw, other)
    other.times = None
    with pytest.raises(VideoError, match="without times"):
        match(raw, other)


def test_images_reaching_beyond_the_video_are_refused(clip, tmp_path, walk):
    raw = clip("raw.mp4", range(3))
    (tmp_path / "a").mkdir()
    for number in range(4):
        Image.fromarray(walk[number]).save(tmp_path / f"a/{number:04d}.png")
    with pytest.raises(VideoError, match="image of frame 3"):
        match(raw, open_clip(tmp_path / "a"))
    (tmp_path / "a/0003.png").unlink()
    assert match(raw, open_clip(tmp_path / "a")) == ({0: 0, 1: 1, 2: 2}, "")


@given(*[st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True)] * 2)
def test_only_equal_times_meet(one, other):
    one, other = np.array(sorted(one)) / 25, np.array(sorted(other)) / 25
    found = by_time(one, other)
    _, first, second = np.intersect1d(one, other, return_indices=True)
    expected = dict(zip(first.tolist(), second.tolist(), strict=True))
    assert expected.items() <= found.items() and len(set(found.values())) == len(found)
    if len(one) > 1 and np.median(np.diff(one)) == 1 / 25:
        assert found == expected


@pytest.mark.parametrize("offset", [-4, -1, 0, 1, 2, 5])
def test_other_moments_are_noticed(walk, offset):
    raw = {number: thumbnail(frame) for number, frame in enumerate(walk)}
    assert other_moment({n: raw[n + offset] for n in range(12) if 0 <= n + offset < 12}, raw) == offset
    gap = {number: raw[number if number < 7 else number + 1] for number in range(11)}
    assert other_moment(gap, raw) == 1


def test_still_scene_is_no_shift(walk):
    rng = np.random.default_rng(0)
    noisy = np.clip(walk[0] + rng.normal(0, 3, (2, 8, *walk[0].shape)), 0, 255).astype(np.uint8)
    assert other_moment(*({number: thumbnail(frame) for number, frame in enumerate(part)} for part in noisy)) == 0
