import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addlib.clips import open_clip
from addlib.faceforensics.matching import by_time, match, other_moment
from addlib.video import VideoError


@pytest.fixture
def source(tmp_path, walk, write_timed):
    def make(name, stamps, rate=25):
        frames = [walk[number % 12] for number in range(len(stamps))]
        write_timed(tmp_path / name, frames, stamps, rate=rate)
        return open_clip(tmp_path / name)

    return make


def test_same_count_goes_by_number(source):
    raw = source("raw.mp4", range(12))
    assert match(raw, source("a.mp4", range(12))) == ({n: n for n in range(12)}, "")
    # The same frames shown faster, as when fakes take another frame rate: the number still says which is which.
    assert match(raw, source("b.mp4", range(12), rate=30))[0] == {n: n for n in range(12)}


def test_dropped_frame_is_stepped_over(source):
    raw = source("raw.mp4", range(24))
    kept = [n for n in range(24) if n != 5]
    found, note = match(raw, source("a.mp4", kept))
    assert found == {n: i for i, n in enumerate(kept)} and note == "23 of 24 frames aligned by presentation time"


def test_duplicated_frames_at_twice_the_rate(source):
    raw = source("raw.mp4", range(12))
    assert match(raw, source("a.mp4", range(24), rate=50))[0] == {n: 2 * n for n in range(12)}


def test_late_start_is_taken_off(source):
    raw = source("raw.mp4", range(12))
    assert match(raw, source("a.mp4", range(40, 53)))[0] == {n: n for n in range(12)}


@pytest.mark.parametrize(("stamps", "rate"), [(range(6), 25), (range(10), 30)])
def test_another_cut_is_refused(source, stamps, rate):
    raw = source("raw.mp4", range(12))
    with pytest.raises(VideoError, match=r"raw has 12; only \d+ agree in presentation time"):
        match(raw, source("a.mp4", stamps, rate))


def test_without_times_another_count_is_refused(source):
    raw, other = source("raw.mp4", range(12)), source("a.mp4", range(11))
    other.times = None
    with pytest.raises(VideoError, match="without times"):
        match(raw, other)


def test_images_reaching_beyond_the_video_are_refused(source, tmp_path, walk):
    from PIL import Image

    raw = source("raw.mp4", range(3))
    for number in range(4):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(walk[number]).save(tmp_path / f"a/{number:04d}.png")
    with pytest.raises(VideoError, match="image of frame 3"):
        match(raw, open_clip(tmp_path / "a"))
    (tmp_path / "a/0003.png").unlink()
    assert match(raw, open_clip(tmp_path / "a")) == ({0: 0, 1: 1, 2: 2}, "")


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True),
    st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True),
)
def test_only_equal_times_meet(one, other):
    one, other = np.array(sorted(one)) / 25, np.array(sorted(other)) / 25
    found = by_time(one, other)
    expected = {
        int(np.flatnonzero(one == t)[0]): int(np.flatnonzero(other == t)[0]) for t in np.intersect1d(one, other)
    }
    assert expected.items() <= found.items()
    assert len(set(found.values())) == len(found)
    if len(one) > 1 and np.median(np.diff(one)) == 1 / 25:
        assert found == expected


def thumbnails(frames):
    return {number: frame[::2, ::2, 1] for number, frame in enumerate(frames)}


@pytest.mark.parametrize("offset", [-4, -1, 1, 2, 5])
def test_other_moments_are_noticed(walk, offset):
    raw = thumbnails(walk)
    late = {number: raw[number + offset] for number in range(12) if 0 <= number + offset < 12}
    assert other_moment(late, raw) == offset
    assert other_moment(raw, raw) == 0


def test_a_gap_in_the_middle_is_noticed(walk):
    raw = thumbnails(walk)
    dropped = {number: raw[number if number < 7 else number + 1] for number in range(11)}
    assert other_moment(dropped, raw) == 1


def test_still_scene_and_lag_are_no_shift(walk):
    rng = np.random.default_rng(0)
    noisy = {n: np.clip(walk[0][..., 1] + rng.normal(0, 3, (224, 224)), 0, 255).astype(np.uint8) for n in range(8)}
    still = {n: np.clip(walk[0][..., 1] + rng.normal(0, 3, (224, 224)), 0, 255).astype(np.uint8) for n in range(8)}
    assert other_moment(noisy, still) == 0
