import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from addlib.faceforensics import splits
from addlib.faceforensics.tree import Video

SHARED = Path(__file__).resolve().parents[3] / "shared" / "splits"


def names(pairs):
    return [group for a, b in pairs for group in ((a,), (b,), (a, b), (b, a))]


def test_shares_are_the_papers():
    pairs = [(f"{2 * i:03d}", f"{2 * i + 1:03d}") for i in range(500)]
    assigned = splits.seeded(names(pairs), seed=0)
    assert Counter(assigned.values()) == {"train": 720, "val": 140, "test": 140}


@given(st.integers(3, 60), st.integers(0, 5), st.randoms())
def test_a_pair_never_crosses(count, seed, random):
    order = [f"{i:03d}" for i in range(2 * count)]
    random.shuffle(order)
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assigned = splits.seeded(names(pairs), seed)
    assert all(assigned[a] == assigned[b] for a, b in pairs)
    assert set(assigned.values()) == {"train", "val", "test"} and set(assigned) == set(order)


def test_chains_stay_together():
    # a_b and b_c: three identities of which the middle one has two partners.
    assigned = splits.seeded([("a", "b"), ("b", "c"), ("d", "e"), ("f", "g"), ("h", "i")])
    assert assigned["a"] == assigned["b"] == assigned["c"]


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


def test_order_of_the_files_does_not_matter_and_the_seed_does():
    pairs = [(f"{2 * i:03d}", f"{2 * i + 1:03d}") for i in range(40)]
    one = splits.seeded(names(pairs), 0)
    assert one == splits.seeded(names(pairs[::-1]), 0)
    assert one != splits.seeded(names(pairs), 1)


def test_too_few():
    with pytest.raises(ValueError, match="2 groups"):
        splits.seeded(names([("a", "b"), ("c", "d")]))


def test_official_files(tmp_path):
    form = {"train": [["071", "054"]], "val": [["001", "002"]], "test": [["003", "004"]]}
    for name, pairs in form.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(pairs))
    assert splits.official(tmp_path) == splits.official(form)
    assert splits.official(form)["054"] == "train"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official split files are not beside this checkout")
def test_official_split_of_the_benchmark():
    assert Counter(splits.official(SHARED).values()) == {"train": 720, "val": 140, "test": 140}


def test_bad_splits_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train.json"):
        splits.official(tmp_path)
    with pytest.raises(ValueError, match="071 is in train and in test"):
        splits.official({"train": [["071", "054"]], "test": [["071", "003"]]})
    with pytest.raises(ValueError, match=r"\.\./etc"):
        splits.official({"train": [["../etc", "054"]]})
    with pytest.raises(ValueError, match="training"):
        splits.official({"training": []})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[[[",
        "\x00",
        "[" * 100_000,
        '{"train": 1}',
        '"071"',
        "[1, 2]",
        '[["../../etc/passwd", "054"]]',
        "[[null]]",
    ],
)
def test_hostile_file_is_named(tmp_path, text):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.json").write_text("[]")
    (tmp_path / "val.json").write_text(text)
    with pytest.raises(ValueError, match="val"):
        splits.official(tmp_path)


def test_file_that_is_no_text(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"train\.json is not the JSON of a split"):
        splits.official(tmp_path)


def test_split_of():
    assigned = {"a": "train", "b": "train", "c": "test"}
    assert splits.split_of(("a", "b"), assigned) == "train"
    assert splits.split_of(("a", "c"), assigned) is None
    assert splits.split_of(("z",), assigned) is None


def videos(*names, manipulation="original"):
    return [Video(manipulation, name, {}) for name in names]


def test_split_that_fits_is_let_pass():
    assigned = splits.official({"train": [["071", "054"]], "val": [["001", "002"]], "test": []})
    splits.check(videos("071", "001", "999") + videos("071_054", manipulation="FaceSwap"), assigned)
    splits.check(videos("01__walking", manipulation="actors") + videos("001"), {"001": "train", "01": "train"})


@pytest.mark.parametrize("identity", ["71", "0071"])
def test_split_with_other_zeros_is_named(identity):
    """Of FaceForensics++'s thousand identities 900 have no zero to lose: most of the split would still be found."""
    there = videos("071", "100", "101")
    with pytest.raises(ValueError, match=f"names identity {identity}, the videos 071: .* zeros"):
        splits.check(there, {"100": "train", "101": "val", identity: "test"})


def test_split_of_other_data_is_named():
    with pytest.raises(ValueError, match=r"no video on disk is in train.*such as \['id0', 'id1'\].*such as \['071', '054'\]"):
        splits.check(videos("071", "054"), {"id0": "train", "id1": "train"})
    with pytest.raises(ValueError, match="no video on disk is in test"):
        splits.check(videos("071", "054"), {"071": "train", "054": "val", "003": "test"})


def test_videos_named_in_two_ways_are_named():
    """One person under two names would stand on both sides of a split."""
    with pytest.raises(ValueError, match="by 054 and by 54"):
        splits.check(videos("071", "054", "71_54"), splits.seeded([("071",), ("054",), ("71", "54")]))
