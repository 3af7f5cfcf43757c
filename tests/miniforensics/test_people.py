import numpy as np
import pytest

from addlib import faces, miniforensics
from addlib.miniforensics.motion import trajectory
from addlib.miniforensics.person import blend_traits, draw_traits


def test_a_thousand_people_are_all_different_and_another_seed_gives_others():
    seen = {tuple(draw_traits(seed, number).shape.values()) for seed in (0, 1) for number in range(500)}
    assert len(seen) == 1000


def test_blend_lies_between():
    one, other = draw_traits(0, 1), draw_traits(0, 2)
    for name, value in blend_traits(one, other, shape=0.7).shape.items():
        assert value == pytest.approx(0.7 * one.shape[name] + 0.3 * other.shape[name])


def test_motion_is_smooth_and_in_range():
    poses = trajectory(0, 1, 40)
    yaw = np.array([pose.yaw for pose in poses])
    assert np.abs(np.diff(yaw)).max() < 0.1 and np.abs(yaw).max() < 0.7
    assert max(pose.blink for pose in poses) == 1, "a second and a half holds one blink"
    assert all(0 <= pose.mouth_open <= 0.2 for pose in poses)
    assert np.allclose([np.linalg.norm(pose.light) for pose in poses], 1, atol=1e-5)


def test_frames_are_pictures():
    for name, frames in miniforensics.render_video(0, 2, 3, 2).items():
        assert len(frames) == 2, name
        for frame in frames:
            assert frame.shape == (miniforensics.SIZE, miniforensics.SIZE, 3) and frame.dtype == np.uint8
            assert 15 < frame.mean() < 240 and frame.std() > 10


@pytest.mark.slow
def test_dlib_finds_the_faces():
    videos = [miniforensics.render_video(11, number, number + 1, 1) for number in range(0, 40, 2)]
    found = [faces.largest_face(frame) is not None for each in videos for (frame,) in each.values()]
    assert np.mean(found) >= 0.95
