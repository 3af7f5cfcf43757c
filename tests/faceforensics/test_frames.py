import numpy as np
import pytest
from PIL import Image

from addlib import video
from addlib.faceforensics.frames import ImageFrames, VideoFrames, open_frames, sha256
from addlib.video import VideoError


def extract(path, frames, folder, kind="png", numbers=None):
    folder.mkdir(parents=True)
    for number, frame in zip(numbers or range(len(frames)), frames, strict=True):
        Image.fromarray(frame).save(folder / f"{number:04d}.{kind}")
    return folder


def test_file_and_images_give_the_same_frames(walk, tmp_path):
    video.write_video(tmp_path / "a.mp4", walk, 0)
    extract(tmp_path, walk, tmp_path / "a")
    one, other = open_frames(tmp_path / "a.mp4"), open_frames(tmp_path / "a")
    assert isinstance(one, VideoFrames) and isinstance(other, ImageFrames)
    assert one.total == other.total == 12 and one.size == other.size == (224, 224)
    for (n, a), (m, b) in zip(one.read({1, 7}), other.read({7, 1}), strict=True):
        assert n == m
        np.testing.assert_array_equal(a, b)


def test_gaps_and_jpegs(walk, tmp_path):
    source = ImageFrames(extract(tmp_path, walk[:3], tmp_path / "a", "jpg", [0, 10, 20]))
    assert source.numbers.tolist() == [0, 10, 20] and source.total == 21
    with pytest.raises(VideoError, match="no image of frame 5"):
        list(source.read({5}))


def test_bad_folders_are_named(walk, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no images"):
        open_frames(tmp_path / "empty")
    folder = extract(tmp_path, walk[:1], tmp_path / "a")
    Image.fromarray(walk[0]).save(folder / "00000.png")
    with pytest.raises(VideoError, match="frame 0 twice"):
        open_frames(folder)
    (folder / "00000.png").rename(folder / "cover.png")
    with pytest.raises(VideoError, match=r"cover\.png"):
        open_frames(folder)
    (folder / "cover.png").unlink()
    (folder / "0001.png").write_bytes((folder / "0000.png").read_bytes()[:400])
    with pytest.raises(VideoError, match=r"0001\.png.*cannot be decoded"):
        list(open_frames(folder).read({1}))


def test_huge_image_is_refused_by_its_header(tmp_path, walk):
    folder = extract(tmp_path, walk[:1], tmp_path / "a")
    content = bytearray((folder / "0000.png").read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (folder / "0000.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"0000\.png"):
        open_frames(folder)


def test_limit_holds_for_images(tmp_path, walk, monkeypatch):
    folder = extract(tmp_path, walk[:1], tmp_path / "a")
    monkeypatch.setattr(video, "MAX_PIXELS", 1000)
    with pytest.raises(VideoError, match="224×224"):
        open_frames(folder)


def test_images_lie_as_they_are_shown(tmp_path, walk):
    """A camera that was held upright writes rows from left to right and says so."""
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise by a quarter to be seen
    Image.fromarray(walk[0][:100]).save(tmp_path / "a/0.jpg", exif=exif, quality=95)
    frames = open_frames(tmp_path / "a")
    ((_, frame),) = frames.read({0})
    assert frame.shape[:2] == frames.size == (224, 100)
    assert np.abs(frame.astype(int) - np.rot90(walk[0][:100], -1)).mean() < 5


def test_hash_follows_the_content(walk, tmp_path):
    folder = extract(tmp_path, walk[:2], tmp_path / "a")
    before = sha256(folder)
    assert before == sha256(folder)
    Image.fromarray(walk[5]).save(folder / "0001.png")
    assert sha256(folder) != before
