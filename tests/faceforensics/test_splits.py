import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addlib.faceforensics import splits

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
