"""Video files as users have them: what the container says about the pixels counts, and what is not read is said."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from addlib import video
from addlib.video import VideoClip, VideoError, read_frames

SOME = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
Disposition = av.stream.Disposition


def add_cover(container):
    """A cover picture of 96 × 96 pixels; returns what is to be muxed first."""
    cover = container.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt, cover.disposition = 96, 96, "yuvj420p", Disposition.attached_pic
    picture = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 200, np.uint8)).reformat(format="yuvj420p")
    return lambda: [*cover.encode(picture), *cover.encode(None)]


def film(path, frames, codec="libx264", form=None, pixels="yuv420p", options=None, matrix=None, cover=False, **context):
    """Write frames with PyAV alone; context: attributes of the encoder, such as its colour matrix."""
    with av.open(str(path), "w", format=form) as container:
        picture = add_cover(container) if cover else list
        frames = [av.VideoFrame.from_ndarray(f) if isinstance(f, np.ndarray) else f for f in frames]
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = frames[0].height, frames[0].width, pixels
        stream.options = options or {}
        stream.set_display_matrix(matrix)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        container.mux(picture())
        for number, frame in enumerate(frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(pixels, a, b, c, d):
    """Where the container's matrix puts each pixel (ISO 14496-12: x' = a x + c y, y' = b x + d y), one by one."""
    height, width = pixels.shape[:2]
    to = {(y, x): (b * x + d * y, a * x + c * y) for y, x in itertools.product(range(height), range(width))}
    top, left = (min(place[axis] for place in to.values()) for axis in (0, 1))
    result = np.zeros((width, height, 3) if a == 0 else pixels.shape, np.uint8)
    for (y, x), (row, column) in to.items():
        result[row - top, column - left] = pixels[y, x]
    return result


@pytest.mark.parametrize(
    "turn", [t for t in itertools.product((-1, 0, 1), repeat=4) if abs(t[0]) == abs(t[3]) != abs(t[1]) == abs(t[2])]
)
def test_orientation(tmp_path, turn):
    a, b, c, d = (65536 * part for part in turn)
    matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    path = film(tmp_path / "a.mp4", [SOME] * 3, "libx264rgb", pixels="rgb24", options={"crf": "0"}, matrix=matrix)
    expected, clip = shown(SOME, *turn), VideoClip(path)
    assert clip.size == expected.shape[:2]
    for frame in [*read_frames(path), *dict(clip.frames({0, 2})).values()]:
        np.testing.assert_array_equal(frame, expected)


TURNED = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(
    ("ratio", "matrix", "size"),
    [("2", None, (32, 96)), ("1/2", None, (64, 48)), ("16/15", None, (32, 51)), ("4319/4320", None, (32, 48)), ("2", TURNED, (96, 32))],
)  # fmt: skip
def test_pixels_that_are_not_square(tmp_path, monkeypatch, ratio, matrix, size):
    path = film(tmp_path / "a.mp4", [SOME] * 2, matrix=matrix, sample_aspect_ratio=Fraction(ratio))
    assert VideoClip(path).size == size and [frame.shape[:2] for frame in read_frames(path)] == [size] * 2
    monkeypatch.setattr(video, "MAX_PIXELS", size[0] * size[1] - 1)
    with pytest.raises(VideoError, match="announces frames"):
        VideoClip(path)


def test_a_cover_picture_is_not_the_film(tmp_path):
    for name in ("a.mp4", "a.mov"):
        path = film(tmp_path / name, [SOME] * 3, cover=True)
        assert VideoClip(path).total == 3 and [frame.shape for frame in read_frames(path)] == [SOME.shape] * 3
    # Nor are it and sound one.
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        sound, picture = container.add_stream("aac", rate=16000), add_cover(container)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*sound.encode(frame), *sound.encode(None), *picture()])
    with pytest.raises(VideoError, match="no video stream that is read, cover pictures aside"):
        VideoClip(tmp_path / "a.m4a")


def test_the_default_of_several_films_is_read(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, side, role in zip(streams, (64, 32), (0, Disposition.default), strict=True):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = side, side, "yuv420p", role
        for stream in streams:
            container.mux(stream.encode(av.VideoFrame(stream.width, stream.height, "yuv420p")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert VideoClip(tmp_path / "a.mkv").size == next(read_frames(tmp_path / "a.mkv")).shape[:2] == (32, 32)


FLAT = np.array([[200, 60, 40], [30, 180, 220]], np.uint8)
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of red and blue: BT.709, BT.601, BT.2020


def yuv(matrix, full):
    """A frame of 4:4:4 planes with the two colours of FLAT, computed as the recommendations define them."""
    red, blue = WEIGHTS[matrix]
    r, g, b = FLAT.astype(float).T / 255
    luma = red * r + (1 - red - blue) * g + blue * b
    offset, span, chroma_span = (0, 255, 255) if full else (16, 219, 224)
    chroma = (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)
    planes = [offset + span * luma, *(128 + chroma_span * c for c in chroma)]
    planes = [np.repeat(np.round(p).astype(np.uint8), 32)[:, None].repeat(64, 1) for p in planes]
    return av.VideoFrame.from_ndarray(np.stack(planes), format="yuv444p")


@pytest.mark.parametrize(("matrix", "full"), [(matrix, full) for matrix in (1, 2, 5, 9) for full in (False, True)])
def test_colour_matrix_and_range_are_those_of_the_stream(tmp_path, matrix, full):
    frame, colours = yuv(5 if matrix == 2 else matrix, full), {"colorspace": matrix, "color_range": 2 if full else 1}
    frame.colorspace, frame.color_range = colours.values()  # 2: the file does not say; BT.601 then
    path = film(tmp_path / "a.mp4", [frame] * 2, pixels="yuv444p", options={"crf": "1"}, **colours)
    np.testing.assert_allclose(next(read_frames(path))[[10, 50], 30], FLAT, atol=4)


def test_a_reserved_colour_matrix_counts_as_none_and_an_unknown_one_is_refused(tmp_path):
    paths = []
    for matrix, name in ((3, "undef"), (8, "YCgCo")):
        options = {"crf": "1", "x264-params": f"colormatrix={name}"}
        path = tmp_path / f"{matrix}.mp4"
        paths.append(film(path, [yuv(5, False)], pixels="yuv444p", options=options, colorspace=matrix))
    np.testing.assert_allclose(next(read_frames(paths[0]))[[10, 50], 30], FLAT, atol=4)
    with pytest.raises(VideoError, match="colours of kind 8 .*ffmpeg -i"):
        next(read_frames(paths[1]))


KINDS = [
    ("a.avi", None, "libx264", {}), ("b.avi", None, "mpeg4", {"bf": "2"}), ("a.h264", "h264", "libx264", {}),
    ("a.hevc", "hevc", "libx265", {"x265-params": "log-level=none"}), ("a.ts", "mpegts", "libx264", {}), ("a.flv", None, "libx264", {}),
    ("a.mpg", "mpeg", "mpeg2video", {"bf": "2"}), ("a.m2v", "mpeg2video", "mpeg2video", {"bf": "2"}), ("a.webm", None, "libvpx-vp9", {}),
    ("a.ogv", "ogg", "libvpx", {}), ("a.ivf", None, "libvpx-vp9", {}), ("a.m4v", "m4v", "mpeg4", {"bf": "2"}), ("a.MKV", "matroska", "libx264", {}),
    ("a.wmv", "asf", "wmv2", {}), ("a.mxf", None, "mpeg2video", {}), ("a.nut", None, "libx264", {}), ("a.gif", "gif", "gif", {}),
    ("a.apng", "apng", "apng", {}), ("a.y4m", "yuv4mpegpipe", "rawvideo", {}), ("a.mjpeg", "mjpeg", "mjpeg", {}),
]  # fmt: skip
PIXELS = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}


@pytest.mark.parametrize(("name", "form", "codec", "options"), KINDS, ids=[kind[0] + " " + kind[2] for kind in KINDS])
def test_containers_and_frames_without_time_stamps(tmp_path, name, form, codec, options):
    frames = [np.full((64, 64, 3), 20 + 10 * number, np.uint8) for number in range(20)]
    path = film(tmp_path / name, frames, codec, form, PIXELS.get(codec, "yuv420p"), options)
    back, clip = list(read_frames(path)), VideoClip(path)
    means = [frame.mean() for frame in back]
    # GIF has 3 bits of green, so neighbours may look alike.
    assert len(back) == clip.total == 20 and means == sorted(means) and means[-1] - means[0] > 150
    for number, frame in clip.frames({3, 4, 17}):
        np.testing.assert_array_equal(frame, back[number])


def test_a_container_that_is_not_read_is_said_with_the_remedy(tmp_path):
    path = film(tmp_path / "a.swf", [SOME] * 2, "flv1", "swf")
    for read in (VideoClip, lambda path: next(read_frames(path))):
        with pytest.raises(VideoError, match="no kind of video that is read here .*ffmpeg -i"):
            read(path)
