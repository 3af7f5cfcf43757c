import numpy as np
import pandas as pd
import pytest
import torch

from addlib.faceforensics.splits import seeded
from addlib.faceforensics.tree import identities as ids_of
from addlib.metrics import by_video, identities, scores


def groups(*names):
    return identities(list(names)).tolist()


def test_by_video_is_a_mean_over_frames():
    random = np.random.default_rng(0)
    names = random.permutation(np.repeat(["Deepfakes/071_054", "original/071", "original/054", "Deepfakes/1_2"], 7))
    names = names.astype(object)  # as FacePairs has them
    labels = np.array([int(name.startswith("Deepfakes")) for name in names])
    probabilities = random.random(len(names)).astype(np.float32)
    expected = pd.DataFrame({"p": probabilities.astype(float), "y": labels, "v": names}).groupby("v", sort=False).mean()
    for kind in (np.asarray, torch.tensor):
        result = by_video(kind(probabilities), kind(labels), names)
        assert result.videos.tolist() == expected.index.tolist()  # in the order of the first frames
        np.testing.assert_allclose(result.probabilities, expected["p"], rtol=1e-12)
        assert result.labels.tolist() == expected["y"].tolist() and result.labels.dtype == np.int64
    assert 0 <= scores(*result[:2]).auc <= 1


def test_by_video_errors():
    with pytest.raises(ValueError, match=r"videos are \(1,\) for 2 samples"):
        by_video([0.5, 0.5], [0, 1], ["a"])
    with pytest.raises(ValueError, match="'071' has frames of label 0 and of label 1.*manipulation"):
        by_video([0.5, 0.5, 0.5], [0, 0, 1], ["054", "071", "071"])
    with pytest.raises(ValueError, match="NaN"):
        by_video([float("nan")], [0], ["a"])


def test_a_pair_is_one_group():
    assert groups("071", "054", "071_054", "054_071", "003", "003_000") == [1, 1, 1, 1, 0, 0]
    assert groups("original/071", "original/054", "Deepfakes/071_054", "FaceSwap/054_071", "original/100") == [
        0
    ] * 4 + [1]


def test_reals_without_their_fake_are_apart():
    assert groups("original/071", "original/054") == [1, 0]


def test_chains_join():
    assert groups("1_2", "5", "2_3", "4_3", "6_5") == [0, 1, 0, 0, 1]


def test_actors_are_no_youtube_identities():
    names = ["DeepFakeDetection/01_02__meeting_serious__YVGY8LOK", "actors/02__exit_phone_room", "original/02", "01_03"]
    first, second, third, fourth = groups(*names)
    assert first == second and len({first, third, fourth}) == 3
    # What follows "__" are no identities: "8" in the suffix.
    assert len(set(groups("DeepFakeDetection/01_02__a__YV8", "DeepFakeDetection/03_04__a__XX8"))) == 2


def test_numbers_do_not_depend_on_order_or_repetition():
    random = np.random.default_rng(0)
    names = np.array([f"Deepfakes/{2 * i:03d}_{2 * i + 1:03d}" for i in range(50)] + ["original/000", "original/099"])
    expected = dict(zip(names, identities(names), strict=True))
    assert [expected[name] for name in names[:50]] == list(range(50))
    shuffled = random.choice(names, 300)
    seen = sorted({expected[name] for name in shuffled})
    assert identities(shuffled).tolist() == [seen.index(expected[name]) for name in shuffled]
    assert identities(names.astype(object)).dtype == np.int64


def test_a_group_is_never_split():
    random = np.random.default_rng(1)
    names = [f"{a:03d}_{b:03d}" for a, b in random.integers(0, 60, (40, 2))] + [f"{i:03d}" for i in range(60)]
    split = seeded([ids_of(name) for name in names])
    for number in np.unique(group := identities(names)):
        inside = [name for name, g in zip(names, group, strict=True) if g == number]
        assert len({split[identity] for name in inside for identity in ids_of(name)}) == 1


def test_identities_errors():
    with pytest.raises(ValueError, match="'071_054.mp4' is a file"):
        identities(["071_054.mp4"])
    with pytest.raises(ValueError, match="at least one name"):
        identities([])
    with pytest.raises(ValueError, match=r"videos are \(\)"):
        identities("071")
