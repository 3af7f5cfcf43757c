import hashlib
import json
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest

from addlib import miniforensics, video
from addlib.miniforensics.person import draw_traits

SMALL = {"people": 2, "frames": 1, "workers": 1, "manipulations": ["FaceSwap"]}
TREE = {"people": 8, "frames": 3, "seed": 3}  # settings of the fixture "tree"


def digests(root):
    return {path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.mp4")}


def test_tree_is_that_of_the_benchmark(tree):
    assert len(digests(tree)) == 8 * (1 + 5) * 3
    for pair in miniforensics.pairs(8, 3):
        for target, source in (pair, pair[::-1]):
            for quality in ("raw", "c23", "c40"):
                assert (tree / f"original_sequences/youtube/{quality}/videos/{target:03d}.mp4").is_file()
                for name in miniforensics.MANIPULATIONS:
                    folder = tree / f"manipulated_sequences/{name}/{quality}/videos"
                    assert (folder / f"{target:03d}_{source:03d}.mp4").is_file()


def test_same_bytes_whatever_the_workers_and_the_process(tree, tmp_path):
    miniforensics.generate(tmp_path / "a", **TREE, workers=2)
    code = f"from addlib import miniforensics; miniforensics.generate({str(tmp_path / 'b')!r}, **{TREE}, workers=1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert digests(tmp_path / "a") == digests(tmp_path / "b") == digests(tree)


def test_what_cannot_be_removed_is_no_new_data(tmp_path, monkeypatch):
    root = miniforensics.generate(tmp_path / "mini", **SMALL)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    monkeypatch.setattr("shutil.rmtree", Mock(side_effect=PermissionError("read-only")))
    with pytest.raises(PermissionError):
        miniforensics.generate(root, **SMALL | {"seed": 4}, overwrite=True)
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == before, "nor does a record say so"


def test_another_seed_other_people(tree, tmp_path):
    other = miniforensics.generate(tmp_path / "mini", **SMALL | {"seed": 4, "frames": 3})
    assert not set(digests(other).values()) & set(digests(tree).values())


def test_qualities_hold_the_same_frames(tree):
    target = miniforensics.pairs(8, 3)[0][0]
    path = f"original_sequences/youtube/{{}}/videos/{target:03d}.mp4"
    raw, c23, c40 = (np.stack(list(video.read_frames(tree / path.format(q)))) for q in ("raw", "c23", "c40"))
    for frames, least in ((c23, 32), (c40, 26)):
        error = np.square(raw.astype(float) - frames).mean((1, 2, 3))
        assert len(error) == 3 and all(10 * np.log10(255**2 / error) > least)


def test_interrupted_tree_is_completed_and_kept_files_stay(tree, tmp_path):
    root = miniforensics.generate(tmp_path / "mini", **TREE, workers=1)
    stay, *_, empty, gone = sorted(root.rglob("*.mp4"))
    before = stay.stat().st_mtime_ns
    gone.unlink()
    empty.write_bytes(b"")
    miniforensics.generate(root, **TREE, workers=1)
    assert digests(root) == digests(tree) and stay.stat().st_mtime_ns == before


def test_other_settings_and_other_code_are_refused_or_replaced(tmp_path, monkeypatch):
    root = miniforensics.generate(tmp_path / "mini", **SMALL)
    settings = SMALL | {"frames": 2}
    with pytest.raises(FileExistsError, match=r"'frames': \(1, 2\)"):
        miniforensics.generate(root, **settings)
    miniforensics.generate(root, **settings, overwrite=True)
    assert len(list(video.read_frames(next(root.rglob("*.mp4"))))) == 2
    asked = []
    monkeypatch.setattr("addlib.provenance.code_hash", lambda *modules: asked.append(modules) or "another")
    with pytest.raises(FileExistsError, match="generator"):
        miniforensics.generate(root, **settings)
    miniforensics.generate(root, **settings, overwrite=True)
    assert json.loads((root / "miniforensics.json").read_text())["generator"] == miniforensics.generator_hash()
    assert set(asked) == {("addlib.miniforensics",)}


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "miniforensics.json").write_text(text)
    with pytest.raises(FileExistsError, match="miniforensics.json is damaged"):
        miniforensics.generate(tmp_path, **SMALL)


def test_strangers_files_are_not_touched(tmp_path):
    (tmp_path / "original_sequences").mkdir()
    (tmp_path / "original_sequences/thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty"):
        miniforensics.generate(tmp_path, people=2, overwrite=True)
    assert (tmp_path / "original_sequences/thesis.txt").exists()


def test_bad_settings_are_named(tmp_path):
    for settings in ({"people": 3}, {"people": 0}, {"people": 1002}, {"frames": 0}, {"manipulations": ["DeepFakes"]}):
        with pytest.raises(ValueError, match="expected|there are"):
            miniforensics.generate(tmp_path / "mini", **settings)


def test_pairs_match_everybody_once_with_somebody_alike():
    matching, hair = miniforensics.pairs(400, 0), [draw_traits(0, number).hair for number in range(400)]
    assert sorted(number for pair in matching for number in pair) == list(range(400))
    assert matching != miniforensics.pairs(400, 1)

    def apart(pairs):
        return np.mean([np.abs(hair[a] - hair[b]).mean() for a, b in pairs])

    assert apart(matching) < 0.8 * apart(zip(range(0, 400, 2), range(1, 400, 2), strict=True))
