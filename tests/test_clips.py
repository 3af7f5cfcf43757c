import struct

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from addlib import video
from addlib.clips import open_clip, read_picture
from addlib.video import VideoError

SOME = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def save(path, pixels=SOME, orientation=None, **options):
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


def frames(clip):
    return {number: picture.rgb() for number, picture in clip.pictures(clip.numbers.tolist())}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True}), ("a.jpg", {"quality": 90})])
def test_a_picture_is_turned_as_its_exif_data_say(tmp_path, name, options, orientation):
    path = save(tmp_path / name, orientation=orientation, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    clip = open_clip(path)
    assert clip.size == expected.shape[:2] and clip.total == 1 and clip.times is None
    np.testing.assert_array_equal(frames(clip)[0], expected)
    _, picture = next(clip.pictures({0}))
    assert max(picture.thumbnail(16).shape) == 16 and len(clip.sha256()) == 64


def test_kinds_of_pictures(tmp_path):
    grey = np.arange(0, 65536, 65536 // 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png")[..., 1], grey >> 8)
    Image.fromarray(SOME).convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "alpha.png"), SOME)
    Image.fromarray(SOME[..., 0]).save(tmp_path / "grey.bmp")
    np.testing.assert_array_equal(frames(open_clip(tmp_path / "grey.bmp"))[0], SOME[..., :1].repeat(3, 2))
    save(tmp_path / "a.png").rename(tmp_path / "said-to-be.jpg")
    np.testing.assert_array_equal(frames(open_clip(tmp_path / "said-to-be.jpg"))[0], SOME)
    Image.fromarray(SOME[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(VideoError, match="mode F"):
        read_picture(tmp_path / "float.tif")


def test_what_is_no_single_picture_or_damaged(tmp_path, monkeypatch):
    pictures = [Image.fromarray(np.full((24, 40, 3), value, np.uint8)) for value in (10, 90, 200)]
    for name in ("a.webp", "a.png", "a.gif", "a.tif"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    for name in ("a.png", "a.gif"):
        assert [round(frame.mean(), -1) for frame in frames(open_clip(tmp_path / name)).values()] == [10, 90, 200]
    for name in ("a.webp", "a.tif"):
        with pytest.raises(VideoError, match="holds 3 pictures; save each"):
            open_clip(tmp_path / name)
    path = save(tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(VideoError, match=r"cut\.jpg .* cannot be decoded"):
        frames(open_clip(path))
    (tmp_path / "IMG_1.HEIC").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(12))
    with pytest.raises(VideoError, match="save it as PNG or JPEG"):
        open_clip(tmp_path / "IMG_1.HEIC")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        open_clip(tmp_path / "nowhere.png")
    save(tmp_path / "large.png")
    monkeypatch.setattr(video, "MAX_PIXELS", 24 * 40 - 1)
    with pytest.raises(VideoError, match="40×24 pixels"):
        open_clip(tmp_path / "large.png")


def test_the_first_picture_of_a_cameras_file_with_previews(tmp_path):
    preview = Image.fromarray(SOME[:8, :8])
    Image.fromarray(SOME).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview], quality=95)
    assert open_clip(tmp_path / "a.jpg").size == (24, 40)


def test_folders(tmp_path):
    for number, name in ((7, "0007.png"), (2, "0002.PNG"), (30, "0030.webp")):
        save(tmp_path / name, np.full((24, 40, 3), number, np.uint8), **({"lossless": True} if "webp" in name else {}))
    (tmp_path / "notes.txt").write_text("not a picture")
    clip = open_clip(tmp_path)
    assert clip.numbers.tolist() == [2, 7, 30] and clip.total == 31 and clip.size == (24, 40)
    assert {number: int(frame.mean()) for number, frame in frames(clip).items()} == {2: 2, 7: 7, 30: 30}
    with pytest.raises(VideoError, match="no picture of frame 3"):
        list(clip.pictures({3}))
    save(tmp_path / "7.jpg")
    with pytest.raises(VideoError, match="frame 7 twice"):
        open_clip(tmp_path)


def test_folders_of_pictures_with_other_names(tmp_path):
    for number in (10, 2, 1):
        save(tmp_path / f"IMG_{number}.jpg", np.full((24, 40 + number, 3), 10 * number, np.uint8))
    with pytest.raises(VideoError, match=r"holds IMG_1\.jpg; expected pictures named by frame number"):
        open_clip(tmp_path)
    clip = open_clip(tmp_path, any_names=True)
    assert [frame.shape[1] for frame in frames(clip).values()] == [41, 42, 50], "in the order of their numbers"
    (tmp_path / "IMG_3.heic").touch()
    with pytest.raises(VideoError, match=r"IMG_3\.heic, a kind of picture that is not read"):
        open_clip(tmp_path, any_names=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no pictures"):
        open_clip(tmp_path / "empty")


def test_a_video_is_the_same_as_its_frames(tmp_path):
    video.write_video(tmp_path / "a.mp4", [np.roll(SOME, step, 1) for step in range(5)], 0)
    clip = open_clip(tmp_path / "a.mp4")
    assert clip.total == 5 and clip.times.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    for one, other in zip(frames(clip).values(), video.read_frames(tmp_path / "a.mp4"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stream_of_jpeg_pictures_is_a_video(tmp_path):
    with av.open(str(tmp_path / "a.mjpeg"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 24, 40, "yuvj420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(SOME)))
        container.mux(stream.encode(None))
    assert open_clip(tmp_path / "a.mjpeg").total == 3
