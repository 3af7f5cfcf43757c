import numpy as np

from addlib.miniforensics.motion import trajectory
from addlib.miniforensics.person import draw_traits


def test_a_thousand_people_are_all_different_and_another_seed_gives_others():
    seen = {tuple(draw_traits(seed, number).shape.values()) for seed in (0, 1) for number in range(500)}
    assert len(seen) == 1000


def test_motion_is_smooth_and_in_range():
    poses = trajectory(0, 1, 40)
    yaw = np.array([pose.yaw for pose in poses])
    assert np.abs(np.diff(yaw)).max() < 0.1 and np.abs(yaw).max() < 0.7
    assert max(pose.blink for pose in poses) == 1, "a second and a half holds one blink"
    assert all(0 <= pose.mouth_open <= 0.2 for pose in poses)
    assert np.allclose([np.linalg.norm(pose.light) for pose in poses], 1, atol=1e-5)
