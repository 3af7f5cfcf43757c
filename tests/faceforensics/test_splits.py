import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from addlib.faceforensics import splits
from addlib.faceforensics.tree import Video

SHARED = Path(__file__).resolve().parents[3] / "shared" / "splits"


def names(pairs):
    return [group for a, b in pairs for group in ((a,), (b,), (a, b), (b, a))]


def test_shares_are_the_papers_and_the_seed_decides():
    pairs = [(f"{2 * i:03d}", f"{2 * i + 1:03d}") for i in range(500)]
    assigned = splits.seeded(names(pairs), seed=0)
    assert Counter(assigned.values()) == {"train": 720, "val": 140, "test": 140}
    assert all(assigned[a] == assigned[b] for a, b in pairs), "a pair never crosses"
    assert assigned == splits.seeded(names(pairs[::-1]), 0) != splits.seeded(names(pairs), 1)
    with pytest.raises(ValueError, match="2 groups"):
        splits.seeded(names(pairs[:2]))
    with pytest.raises(ValueError, match="1 groups .*; 4 of 4 videos name 'clip'; expected three groups"):
        splits.seeded(("clip", str(number)) for number in range(4))


def test_groups_are_the_components_of_the_graph():
    """SciPy numbers them by their first identity too; the seeded split, and with it the data hash, hangs on the numbers."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        names = [tuple(f"{i:02d}" for i in rng.integers(0, 40, rng.integers(1, 4))) for _ in range(25)]
        ids = sorted({i for name in names for i in name})
        links = np.array([(ids.index(a), ids.index(b)) for name in names for a, b in zip(name, name[1:], strict=False)])
        graph = coo_matrix((np.ones(len(links)), tuple(links.T)), shape=(len(ids), len(ids)))
        expected = connected_components(graph, directed=False)[1].tolist()
        assert list(splits.groups(names).items()) == list(zip(ids, expected, strict=True))


def test_fakes_without_a_real_video_are_named():
    reals, fakes = [[Video(kind, name, {}) for name in names] for kind, names in (
        ("original", ["anna", "bob", "carl"]), ("Deepfakes", ["anna_bob", "Anna_Bob", "swap0"]))]  # fmt: skip
    assigned = splits.seeded([video.ids for video in reals + fakes])
    with pytest.warns(UserWarning, match="2 fakes name no real video that is there, such as Anna_Bob; expected TARGET_SOURCE"):
        splits.check(reals + fakes, assigned)


FORM = {"train": [["071", "054"]], "val": [["001", "002"]], "test": [["003", "004"]]}


def save(folder, form):
    for name, pairs in form.items():
        (folder / f"{name}.json").write_text(pairs if isinstance(pairs, str) else json.dumps(pairs))
    return folder


def test_official_files(tmp_path):
    expected = {i: split for split, ((a, b),) in FORM.items() for i in (a, b)}
    assert splits.official(save(tmp_path, FORM)) == splits.official(FORM) == expected
    assert splits.official({"train": [["p-000", "p-003"]]}) == {"p-000": "train", "p-003": "train"}
    (tmp_path / "train.json").unlink()
    with pytest.raises(FileNotFoundError, match="train.json"):
        splits.official(tmp_path)
    with pytest.raises(ValueError, match="071 is in train and in test"):
        splits.official({"train": [["071", "054"]], "test": [["071", "003"]]})
    with pytest.raises(ValueError, match="training"):
        splits.official({"training": []})


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official split files are not beside this checkout")
def test_official_split_of_the_benchmark():
    assert Counter(splits.official(SHARED).values()) == {"train": 720, "val": 140, "test": 140}


def test_hostile_file_is_named(tmp_path):
    for text in ("", "{", "\x00", "[" * 100_000, '{"train": 1}', '"071"', "[1, 2]", '[["../a"]]', "[[null]]"):
        with pytest.raises(ValueError, match="val"):
            splits.official(save(tmp_path, FORM | {"val": text}))


def videos(*names, manipulation="original"):
    return [Video(manipulation, name, {}) for name in names]


def test_split_that_fits_is_let_pass():
    assigned = splits.official({"train": [["071", "054"]], "val": [["001", "002"]], "test": []})
    splits.check(videos("071", "001", "999") + videos("071_054", manipulation="FaceSwap"), assigned)
    splits.check(videos("01__walking", manipulation="actors") + videos("001"), {"001": "train", "01": "train"})


@pytest.mark.parametrize(
    ("there", "assigned", "match"),
    [
        # Of FaceForensics++'s thousand identities 900 have no zero to lose: most of the split would still be found.
        (("071", "100"), {"100": "train", "71": "test"}, "split names 71, the videos 071: write its zeros"),
        (("071", "100"), {"100": "train", "0071": "test"}, "split names 0071, the videos 071: write its zeros"),
        (("071", "054"), {"id0": "train", "id1": "train"}, r"in train, which has \['id0'.*there are \['071'"),
        (("071", "054"), {"071": "train", "054": "val", "003": "test"}, "no video on disk is in test"),
        # One person under two names would stand on both sides of a split.
        (("071", "054", "71_54"), {"071": "train", "54": "val"}, "named by 054 and 54, one number"),
    ],
)
def test_split_that_does_not_fit_is_named(there, assigned, match):
    with pytest.raises(ValueError, match=match):
        splits.check(videos(*there), assigned)
