import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from addlib import miniforensics, video


def digests(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*.mp4"))
    }


def test_tree_is_that_of_the_benchmark(tree):
    files = digests(tree)
    assert len(files) == 8 * (1 + 5) * 3
    for pair in miniforensics.pairs(8, 3):
        for target, source in (pair, pair[::-1]):
            for quality in ("raw", "c23", "c40"):
                assert (tree / f"original_sequences/youtube/{quality}/videos/{target:03d}.mp4").is_file()
                for name in miniforensics.MANIPULATIONS:
                    assert (
                        tree / f"manipulated_sequences/{name}/{quality}/videos/{target:03d}_{source:03d}.mp4"
                    ).is_file()


def test_same_bytes_whatever_the_workers(tree, tmp_path):
    other = miniforensics.generate(tmp_path / "mini", people=8, frames=3, seed=3, workers=2)
    assert digests(other) == digests(tree)


def test_same_bytes_from_another_process(tree, tmp_path):
    code = f"from addlib import miniforensics; miniforensics.generate({str(tmp_path / 'm')!r}, people=8, frames=3, seed=3, workers=1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert digests(tmp_path / "m") == digests(tree)


def test_another_seed_other_people(tree, tmp_path):
    other = miniforensics.generate(tmp_path / "mini", people=2, frames=3, seed=4, workers=1, manipulations=["FaceSwap"])
    assert not set(digests(other).values()) & set(digests(tree).values())


def test_qualities_hold_the_same_frames(tree):
    target = miniforensics.pairs(8, 3)[0][0]
    raw, c23, c40 = (
        list(video.read_frames(tree / f"original_sequences/youtube/{quality}/videos/{target:03d}.mp4"))
        for quality in ("raw", "c23", "c40")
    )
    assert len(raw) == len(c23) == len(c40) == 3
    for frames, least in ((c23, 32), (c40, 26)):
        for one, other in zip(raw, frames, strict=True):
            error = ((one.astype(float) - other) ** 2).mean()
            assert 10 * np.log10(255**2 / error) > least


def test_interrupted_tree_is_completed_and_kept_files_stay(tree, tmp_path):
    root = miniforensics.generate(tmp_path / "mini", people=8, frames=3, seed=3, workers=1)
    files = sorted(root.rglob("*.mp4"))
    stay, gone = files[0], files[5:]
    before = stay.stat().st_mtime_ns
    for path in gone:
        path.unlink()
    miniforensics.generate(root, people=8, frames=3, seed=3, workers=1)
    assert digests(root) == digests(tree)
    assert stay.stat().st_mtime_ns == before


def test_other_settings_are_refused_or_replaced(tmp_path):
    root = miniforensics.generate(tmp_path / "mini", people=2, frames=1, workers=1, manipulations=["FaceSwap"])
    with pytest.raises(FileExistsError, match="'frames': \\(1, 2\\)"):
        miniforensics.generate(root, people=2, frames=2, workers=1, manipulations=["FaceSwap"])
    miniforensics.generate(root, people=2, frames=2, workers=1, manipulations=["FaceSwap"], overwrite=True)
    assert json.loads((root / "miniforensics.json").read_text())["frames"] == 2


def test_strangers_files_are_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty"):
        miniforensics.generate(tmp_path, people=2, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    "settings", [{"people": 3}, {"people": 0}, {"people": 1002}, {"frames": 0}, {"manipulations": ["DeepFakes"]}]
)
def test_bad_settings_are_named(tmp_path, settings):
    with pytest.raises(ValueError, match="expected|there are"):
        miniforensics.generate(tmp_path / "mini", **settings)


def test_pairs_match_everybody_once():
    matching = miniforensics.pairs(200, 0)
    assert sorted(number for pair in matching for number in pair) == list(range(200))
    assert matching != miniforensics.pairs(200, 1)


def test_pairs_look_alike():
    from addlib.miniforensics.person import draw_traits

    looks = [draw_traits(0, number) for number in range(400)]

    def apart(pairs):
        return np.mean([np.abs(looks[a].hair - looks[b].hair).mean() for a, b in pairs])

    anybody = list(zip(range(0, 400, 2), range(1, 400, 2), strict=True))
    assert apart(miniforensics.pairs(400, 0)) < 0.8 * apart(anybody)


def test_tree_of_other_code_is_not_completed(tmp_path, monkeypatch):
    settings = {"people": 2, "frames": 1, "workers": 1, "manipulations": ["FaceSwap"]}
    root = miniforensics.generate(tmp_path / "mini", **settings)
    asked = []
    monkeypatch.setattr("addlib.provenance.code_hash", lambda *modules: asked.append(modules) or "another")
    with pytest.raises(FileExistsError, match="generator"):
        miniforensics.generate(root, **settings)
    miniforensics.generate(root, **settings, overwrite=True)
    assert json.loads((root / "miniforensics.json").read_text())["generator"] == miniforensics.generator_hash()
    assert set(asked) == {("addlib.miniforensics",)}


# Of the first release: mean, mean difference of neighbouring columns, and of neighbouring rows round the face.
PUBLISHED = {
    "original": (80.927, 4.541, 5.170),
    "Deepfakes": (80.888, 4.446, 4.971),
    "Face2Face": (80.896, 4.309, 4.384),
    "FaceSwap": (80.915, 4.367, 4.685),
    "FaceShifter": (80.812, 4.544, 5.235),
    "NeuralTextures": (80.977, 4.542, 5.126),
}


def test_pictures_are_still_those_that_the_book_was_made_with():
    for name, frames in miniforensics.render_video(0, 12, 34, 2).items():
        pixels = np.stack(frames).astype(int)
        across, down = np.diff(pixels, axis=2), np.diff(pixels[:, 60:180, 60:180], axis=1)
        found = pixels.mean(), np.abs(across).mean(), np.abs(down).mean()
        assert found == pytest.approx(PUBLISHED[name], abs=2e-3), name
