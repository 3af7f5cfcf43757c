import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from addlib import video
from addlib.clips import open_clip
from addlib.video import VideoError

SOME = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def save(path, pixels=SOME, orientation=None, **options):
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


def frames(path, **options):
    clip = open_clip(path, **options)
    return dict(clip.frames(clip.numbers.tolist()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True}), ("a.jpg", {"quality": 90}), ("a.tif", {})]
)
def test_a_picture_is_turned_as_its_exif_data_say(tmp_path, name, options, orientation):
    path = save(tmp_path / name, orientation=orientation, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert (expected.shape[:2] == (40, 24)) == (orientation > 4)
    clip = open_clip(path)
    assert clip.size == expected.shape[:2] and clip.total == 1 and clip.times is None and len(clip.sha256()) == 64
    np.testing.assert_array_equal(frames(path)[0], expected)


def test_kinds_of_pictures(tmp_path):
    grey = np.arange(0, 65536, 65536 // 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.fromarray(SOME).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(SOME[..., 0]).save(tmp_path / "grey.bmp")
    save(tmp_path / "a.png").rename(tmp_path / "said-to-be.jpg")
    preview = Image.fromarray(SOME[:8, :8])  # as cameras add it
    Image.fromarray(SOME).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview], quality=95)
    expected = {"deep.png": grey >> 8, "alpha.png": SOME, "grey.bmp": SOME[..., 0], "said-to-be.jpg": SOME}
    for name, pixels in expected.items():
        pixels = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, -1)
        np.testing.assert_array_equal(frames(tmp_path / name)[0], pixels)
    assert open_clip(tmp_path / "a.jpg").size == (24, 40)


def test_what_is_no_single_picture_or_damaged(tmp_path, monkeypatch):
    first, *others = [Image.fromarray(np.full((24, 40, 3), value, np.uint8)) for value in (10, 90, 200)]
    for name in ("a.webp", "a.png", "a.gif", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=others)
    for name in ("a.png", "a.gif"):
        assert [round(frame.mean(), -1) for frame in frames(tmp_path / name).values()] == [10, 90, 200]
    Image.fromarray(SOME[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    cut = save(tmp_path / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "IMG_1.HEIC").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(12))
    for name, said in {
        "a.webp": "holds 3 pictures; save", "a.tif": "holds 3 pictures; save", "float.tif": "mode F",
        "cut.jpg": r"cut\.jpg cannot be decoded", "IMG_1.HEIC": "save it as PNG or JPEG",
    }.items():  # fmt: skip
        with pytest.raises(VideoError, match=said):
            open_clip(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        open_clip(tmp_path / "nowhere.png")
    monkeypatch.setattr(video, "MAX_PIXELS", 24 * 40 - 1)
    with pytest.raises(VideoError, match="40×24 pixels"):
        open_clip(save(tmp_path / "large.png"))


def test_a_program_named_like_a_picture_is_not_run(tmp_path):
    (tmp_path / "0.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(VideoError, match="cannot be decoded: cannot identify"):
        open_clip(tmp_path)


def test_folders(tmp_path):
    for number, name in ((7, "0007.png"), (2, "0002.PNG"), (30, "0030.webp")):
        save(tmp_path / name, np.full((24, 40, 3), number, np.uint8), **({"lossless": True} if "webp" in name else {}))
    (tmp_path / "notes.txt").write_text("not a picture")
    clip = open_clip(tmp_path)
    assert clip.numbers.tolist() == [2, 7, 30] and clip.total == 31 and clip.size == (24, 40)
    assert {number: int(frame.mean()) for number, frame in frames(tmp_path).items()} == {2: 2, 7: 7, 30: 30}
    with pytest.raises(VideoError, match="no picture of frame 3"):
        list(clip.frames({3}))
    save(tmp_path / "7.jpg")
    with pytest.raises(VideoError, match=r"frame 7 twice, also as 0007\.png"):
        open_clip(tmp_path)


def test_folders_of_pictures_with_other_names(tmp_path):
    for number in (10, 2, 1):
        save(tmp_path / f"IMG_{number}.jpg", np.full((24, 40 + number, 3), 10 * number, np.uint8))
    with pytest.raises(VideoError, match=r"holds IMG_1\.jpg; expected pictures named by frame number"):
        open_clip(tmp_path)
    found = frames(tmp_path, any_names=True)
    assert [frame.shape[1] for frame in found.values()] == [41, 42, 50], "in the order of their numbers"
    (tmp_path / "IMG_3.heic").touch()
    with pytest.raises(VideoError, match=r"IMG_3\.heic is a kind of picture that is not read"):
        open_clip(tmp_path, any_names=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no pictures"):
        open_clip(tmp_path / "empty")
