import numpy as np
import pytest

from addlib import faceforensics
from addlib.faceforensics import alignment, verify


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (0, -2), (-5, 4)])
def test_shift_is_measured(walk, dx, dy):
    crops = np.stack([frame[40:168, 48:176] for frame in walk[:4]])
    moved = np.stack([frame[40 - dy : 168 - dy, 48 - dx : 176 - dx] for frame in walk[:4]])
    assert np.allclose(alignment.shift(crops, moved), (dx, dy), atol=0.2)


def test_qualities_of_minforensics_lie_where_raw_lies(prepared):
    table = alignment.measure(prepared)
    assert len(table) == 8 * 6 * 2 and set(table["quality"]) == {"c23", "c40"} and table["aligned"].all()
    assert np.hypot(table["dx"], table["dy"])[table["quality"] == "c23"].max() < 0.3
    assert verify(prepared, alignment=True) == []
    part = table[table["manipulation"] == "FaceSwap"].reset_index(drop=True)
    assert alignment.measure(prepared, manipulation="FaceSwap").equals(part)


def test_shifted_crops_are_found(walk, plant, tmp_path):
    """Compressed crops four pixels further right, as with a box found anew or other padding."""
    shifted = plant(tmp_path / "shifted", [np.roll(walk[3], 4, axis=1)] * 4)
    shifted["000", "c40"].replace(plant(tmp_path / "tree", [walk[3]] * 4)["000", "c40"])
    faceforensics.prepare(tmp_path / "tree", tmp_path / "out", frames=4, workers=1, splits={"train": [["000"]]})
    (problem,) = verify(tmp_path / "out", alignment=True)
    assert "original/c40/000: lies (+" in problem and verify(tmp_path / "out") == [], "bytes alone show nothing"


def test_verify_tells_what_changed(walk, plant, tmp_path):
    plant(tmp_path / "tree", walk[2:4])
    faceforensics.prepare(tmp_path / "tree", tmp_path / "out", frames=2, workers=1, splits={"train": [["000"]]})
    changed, missing, cut = (tmp_path / f"out/crops/original/{quality}/000.npy" for quality in ("raw", "c23", "c40"))
    crops = np.load(changed)
    crops[0, 0, 0, 0] ^= 1
    np.save(changed, crops)
    missing.unlink()
    for content in (cut.read_bytes()[:500], b"PK\x03\x04 and no more"):
        cut.write_bytes(content)
        problems = sorted(verify(tmp_path / "out", alignment=True))
        assert [problem.split("/")[2] for problem in problems] == ["c23", "c40", "raw"]
        assert all(word in problem for word, problem in zip(("missing", "not readable", "changed"), problems, strict=True))
    manifest = tmp_path / "out/manifest.csv"
    for content in (b"", manifest.read_bytes().replace(b",2,2,ok,", b",2,two,ok,")):
        manifest.write_bytes(content)
        with pytest.raises(ValueError, match="manifest.csv is damaged"):
            verify(tmp_path / "out")
