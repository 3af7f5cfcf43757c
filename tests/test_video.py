import hashlib
import resource
import subprocess
import sys

import av
import numpy as np
import pytest

from addlib import video


def clip(frames=4, height=48, width=64, seed=0):
    """Moving structure with noise, so that the codec has something to lose."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    scene = [128 + 60 * np.sin((columns + 3 * t) / 5) + 40 * np.cos(rows / 7) for t in range(frames)]
    noise = rng.normal(0, 6, (frames, height, width, 3))
    return [np.clip(image[..., None] + n, 0, 255).astype(np.uint8) for image, n in zip(scene, noise, strict=True)]


@pytest.fixture
def path(tmp_path):
    video.write_video(tmp_path / "a.mp4", clip(20), 23)
    return tmp_path / "a.mp4"


def test_raw_returns_every_pixel_in_order(tmp_path):
    frames = clip()
    video.write_video(tmp_path / "a.mp4", frames, 0)
    back = list(video.read_frames(tmp_path / "a.mp4"))
    assert len(back) == len(frames)
    for one, other in zip(frames, back, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["a.MP4", "a.mkv", "a.mov", "a.avi", "a"])
def test_raw_keeps_odd_sides_in_every_container(tmp_path, name):
    frames = clip(2, 33, 47)
    video.write_video(tmp_path / name, frames, 0)
    np.testing.assert_array_equal(list(video.read_frames(tmp_path / name)), frames)


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


def test_timeline_reads_times_and_size_without_decoding(path):
    when = video.timeline(path)
    assert (when.count, when.size) == (20, (48, 64))
    np.testing.assert_allclose(when.times, np.arange(20) / 25)


@pytest.mark.parametrize("crf", [0, 23, 40])
def test_wanted_frames_are_those_of_the_whole_video(tmp_path, crf):
    """Frames that were skipped on the way change nothing in those that were not."""
    video.write_video(tmp_path / "a.mp4", clip(20), crf)
    whole = list(video.read_frames(tmp_path / "a.mp4"))
    when = video.timeline(tmp_path / "a.mp4")
    for wanted in ({0}, {19}, {3, 4, 11}, set(range(1, 20, 2)), set(range(20))):
        got = {number: picture.rgb() for number, picture in video.pictures(tmp_path / "a.mp4", when, wanted)}
        assert list(got) == sorted(wanted)
        for number, frame in got.items():
            np.testing.assert_array_equal(frame, whole[number])


def test_unwanted_frames_that_no_other_needs_are_not_decoded(path):
    """Shown by spoiling one: whoever does not want it does not notice."""
    video.write_video(path, [np.roll(frame, 5 * number, axis=0) for number, frame in enumerate(clip(20))], 5)
    when = video.timeline(path)
    with av.open(str(path)) as container:
        # After the four bytes of the length, two bits of the NAL unit's header say whether others refer to it.
        idle = [p for p in container.demux(video=0) if p.size > 40 and bytes(p)[4] & 31 == 1 and not bytes(p)[4] & 0x60]
        number, start, size = when.stamps.index(idle[0].pts), idle[0].pos, idle[0].size
    content = bytearray(path.read_bytes())
    content[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(content)
    others = set(range(20)) - {number}
    assert len(list(video.pictures(path, when, others))) == 19
    with pytest.raises(video.VideoError):
        list(video.pictures(path, when, {number}))


def test_thumbnails_of_raw_and_compressed_agree(tmp_path):
    means = []
    for crf in (0, 23):
        video.write_video(tmp_path / "a.mp4", clip(2), crf)
        _, picture = next(video.pictures(tmp_path / "a.mp4", video.timeline(tmp_path / "a.mp4"), {0}))
        assert picture.thumbnail(32).shape == (24, 32)
        means.append(picture.thumbnail(32).astype(float))
    assert np.abs(means[0] - means[1]).mean() < 4


def test_a_frame_that_is_missing_is_named(path):
    when = video.timeline(path)
    with pytest.raises(video.VideoError, match="does not give 1 of them, the first 33"):
        list(video.pictures(path, when, {2, 33}))


@pytest.mark.parametrize("name", ["with space.mp4", "Zürich – 東京.mp4", "data:x.mp4", "a%03d.mp4", "-i.mp4"])
def test_any_file_name(path, name, tmp_path, monkeypatch):
    path.rename(path.with_name(name))
    monkeypatch.chdir(tmp_path)
    assert video.timeline(name).count == 20
    assert sum(1 for _ in video.read_frames(name)) == 20


def test_cut_off_at_any_place(path):
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 200, 25).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(video.VideoError, match=r"a\.mp4"):
            list(video.pictures(path, video.timeline(path), range(20)))


def test_damaged_frames_are_not_passed_off_as_good(tmp_path):
    path = tmp_path / "a.mp4"
    video.write_video(path, clip(20), 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(video.VideoError, match="damaged"):
        list(video.pictures(path, video.timeline(path), {19}))


def test_a_playlist_in_a_videos_clothes_opens_nothing(path):
    fake = path.with_name("list.mp4")
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {path.name}\n",
    ):
        fake.write_text(text)
        with pytest.raises(video.VideoError, match=r"list\.mp4"):
            list(video.read_frames(fake))


def test_huge_frames_are_refused_before_they_fill_the_memory(tmp_path):
    """Black frames of 7,000 × 7,000 pixels, 147 MB each, in a file of half a megabyte."""
    with av.open(str(tmp_path / "huge.mp4"), "w", format="mov") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = 7000, 7000, "rgb24"
        container.mux(stream.encode(av.VideoFrame(7000, 7000, "rgb24")))
        container.mux(stream.encode(None))
    code = (
        "import resource, sys; from addlib import video\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for read in (video.timeline, lambda path: list(video.read_frames(path))):\n"
        "    try: read(sys.argv[1])\n"
        "    except video.VideoError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "huge.mp4")], capture_output=True, text=True, check=True
    )
    *errors, growth = done.stdout.splitlines()
    assert len(errors) == 2 and all("7000×7000" in error for error in errors)
    assert int(growth) * (1 if sys.platform == "darwin" else 1024) < 60e6


def test_limit_of_pixels(path, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(video.VideoError, match="64×48"):
        video.timeline(path)


def test_files_are_closed(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, hard), hard))
    try:
        for _ in range(150):
            video.timeline(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
