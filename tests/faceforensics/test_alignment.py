import shutil

import numpy as np
import pytest

from addlib import faceforensics, video
from addlib.faceforensics import alignment


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (0, -2), (-5, 4)])
def test_shift_is_measured(walk, dx, dy):
    crops = np.stack([frame[40:168, 48:176] for frame in walk[:4]])
    moved = np.stack([frame[40 - dy : 168 - dy, 48 - dx : 176 - dx] for frame in walk[:4]])
    assert np.allclose(alignment.shift(crops, moved), (dx, dy), atol=0.2)


def test_qualities_of_minforensics_lie_where_raw_lies(prepared):
    table = alignment.measure(prepared)
    assert len(table) == 8 * 6 * 2 and set(table["quality"]) == {"c23", "c40"}
    assert table["aligned"].all()
    for quality, limit in (("c23", 0.3), ("c40", 1.2)):
        part = table[table["quality"] == quality]
        assert np.hypot(part["dx"], part["dy"]).max() < limit
    assert faceforensics.verify(prepared, alignment=True) == []
    assert alignment.measure(prepared, manipulation="FaceSwap").equals(
        table[table["manipulation"] == "FaceSwap"].reset_index(drop=True)
    )


@pytest.mark.parametrize("quality", ["c23", "c40"])
def test_shifted_copy_is_found(tree, tmp_path, quality):
    """A copy of one video whose compressed frames lie four pixels further right: as with a box found anew, or other padding."""
    for folder in ("raw", "c23", "c40"):
        shutil.copytree(
            tree / "original_sequences/youtube" / folder, tmp_path / "tree/original_sequences/youtube" / folder
        )
    path = sorted((tmp_path / "tree/original_sequences/youtube" / quality / "videos").iterdir())[2]
    # Made from raw: a second pass through the codec would be another source of error.
    raw = video.read_frames(str(path).replace(f"/{quality}/", "/raw/"))
    video.write_video(path, [np.roll(frame, 4, axis=1) for frame in raw], video.QUALITIES[quality])
    splits = {"train": [[path.stem for path in sorted(path.parent.iterdir())]]}
    faceforensics.prepare(tmp_path / "tree", tmp_path / "out", frames=3, workers=1, splits=splits)
    (problem,) = faceforensics.verify(tmp_path / "out", alignment=True)
    assert f"original/{quality}/{path.stem}: lies (+" in problem
    row = alignment.measure(tmp_path / "out").query("not aligned").iloc[0]
    assert row["dx"] > 2 and abs(row["dy"]) < 1.5
    assert faceforensics.verify(tmp_path / "out") == [], "bytes alone show nothing"


def test_every_quality_of_a_generated_tree_passes(tree, prepared):
    """No false alarm: preparation compared the moments of all these videos, and none was refused."""
    table = faceforensics.read_manifest(prepared)
    assert (table["status"] == "ok").all() and (table["note"] == "").all()
