import hashlib

import av
import numpy as np
import pytest

from addlib import video


def clip(frames=4, height=48, width=64, seed=0):
    """Moving structure with noise, so that the codec has something to lose."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    scene = [128 + 60 * np.sin((columns + 2 * t) / 5) + 40 * np.cos(rows / 7) for t in range(frames)]
    noise = rng.normal(0, 8, (frames, height, width, 3))
    return [np.clip(image[..., None] + n, 0, 255).astype(np.uint8) for image, n in zip(scene, noise, strict=True)]


def test_raw_returns_every_pixel_in_order(tmp_path):
    frames = clip()
    video.write_video(tmp_path / "a.mp4", frames, 0)
    back = list(video.read_frames(tmp_path / "a.mp4"))
    assert len(back) == len(frames)
    for one, other in zip(frames, back, strict=True):
        np.testing.assert_array_equal(one, other)


def test_raw_keeps_odd_sides(tmp_path):
    frames = clip(2, 33, 47)
    video.write_video(tmp_path / "a.mp4", frames, 0)
    np.testing.assert_array_equal(next(video.read_frames(tmp_path / "a.mp4")), frames[0])


def test_loss_and_size_go_with_the_rate_factor(tmp_path):
    frames = clip(8)
    error, size = [], []
    for crf in (0, 10, 23, 40, 51):
        path = tmp_path / f"{crf}.mp4"
        video.write_video(path, frames, crf)
        error.append(np.mean((np.stack(list(video.read_frames(path))).astype(float) - np.stack(frames)) ** 2))
        size.append(path.stat().st_size)
    assert error[0] == 0 and all(np.diff(error) > 0)
    assert all(np.diff(size) < 0)


@pytest.mark.parametrize("crf", [0, 23, 40])
def test_same_frames_same_bytes(tmp_path, crf):
    # Twelve times with other memory in between: x264's AVX-512 code gave five different files here.
    frames, rng = clip(3, 224, 224), np.random.default_rng(1)
    digests = set()
    for _ in range(12):
        clutter = [rng.random((rng.integers(100, 400), 224, 3)) for _ in range(3)]
        video.write_video(tmp_path / "a.mp4", frames, crf)
        digests.add(hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest())
        del clutter
    assert len(digests) == 1


def test_only_the_rate_factor_differs_from_x264_defaults(tmp_path):
    video.write_video(tmp_path / "a.mp4", clip(), 23)
    settings = (tmp_path / "a.mp4").read_bytes().split(b"options: ")[1].split(b"\0")[0].decode()
    for expected in (
        "rc=crf",
        "crf=23.0",
        "subme=7",
        "ref=3",
        "bframes=3",
        "rc_lookahead=40",
        "threads=1",
        "keyint=250",
    ):
        assert expected in settings.split(), expected


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_pixel_format_and_rate_reach_the_file(tmp_path, pixel_format):
    video.write_video(tmp_path / "a.mp4", clip(5), 23, fps=30, pixel_format=pixel_format)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate, stream.frames) == (
            "h264",
            pixel_format,
            30,
            5,
        )


def test_bad_input_is_named(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match="crf is 52"):
        video.write_video(path, clip(), 52)
    with pytest.raises(ValueError, match="no frames"):
        video.write_video(path, [], 23)
    with pytest.raises(ValueError, match="float64"):
        video.write_video(path, [np.zeros((8, 8, 3))], 23)
    with pytest.raises(ValueError, match="even sides"):
        video.write_video(path, clip(1, 33, 48), 23)
    with pytest.raises(ValueError, match="one size"):
        video.write_video(path, clip(1) + clip(1, 32, 32), 23)
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left"


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.mp4"):
        list(video.read_frames(tmp_path / "missing.mp4"))
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(video.VideoError, match="text.mp4"):
        list(video.read_frames(tmp_path / "text.mp4"))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(video.VideoError, match="0 bytes"):
        list(video.read_frames(tmp_path / "empty.mp4"))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(video.VideoError, match="no video stream"):
        list(video.read_frames(tmp_path / "sound.mp4"))
