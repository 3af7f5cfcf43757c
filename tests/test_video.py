import hashlib
import subprocess
import sys

import av
import numpy as np
import pytest

from addlib.video import VideoClip, VideoError, read_frames, write_video


def film(frames=4, height=48, width=64, seed=0):
    """Moving structure with noise, so that the codec has something to lose."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    scene = [128 + 60 * np.sin((columns + 3 * t) / 5) + 40 * np.cos(rows / 7) for t in range(frames)]
    noise = rng.normal(0, 6, (frames, height, width, 3))
    return [np.clip(image[..., None] + n, 0, 255).astype(np.uint8) for image, n in zip(scene, noise, strict=True)]


@pytest.fixture
def path(tmp_path):
    write_video(tmp_path / "a.mp4", film(20), 23)
    return tmp_path / "a.mp4"


@pytest.mark.parametrize("name", ["a.mp4", "a.MP4", "a.mkv", "a.mov", "a.avi", "a"])
def test_raw_keeps_every_pixel_order_and_odd_sides_in_every_container(tmp_path, name):
    frames = film(4, 33, 47)
    write_video(tmp_path / name, frames, 0)
    np.testing.assert_array_equal(list(read_frames(tmp_path / name)), frames)


def test_loss_and_size_go_with_the_rate_factor(tmp_path):
    frames, error, size = film(8), [], []
    for crf in (0, 10, 23, 40, 51):
        write_video(tmp_path / "a.mp4", frames, crf)
        error.append(np.square(np.stack(list(read_frames(tmp_path / "a.mp4"))).astype(float) - frames).mean())
        size.append((tmp_path / "a.mp4").stat().st_size)
    assert error[0] == 0 and all(np.diff(error) > 0) and all(np.diff(size) < 0)


@pytest.mark.parametrize("crf", [0, 23, 40])
def test_same_frames_same_bytes(tmp_path, crf):
    # Twelve times with other memory in between: x264's AVX-512 code gave five different files here.
    frames, rng, digests = film(3, 224, 224), np.random.default_rng(1), set()
    for _ in range(12):
        clutter = [rng.random((rng.integers(100, 400), 224, 3)) for _ in range(3)]
        write_video(tmp_path / "a.mp4", frames, crf)
        digests.add(hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest())
        del clutter
    assert len(digests) == 1


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_only_the_rate_factor_differs_from_x264_defaults(tmp_path, pixel_format):
    write_video(tmp_path / "a.mp4", film(5), 23, fps=30, pixel_format=pixel_format)
    settings = (tmp_path / "a.mp4").read_bytes().split(b"options: ")[1].split(b"\0")[0].decode().split()
    assert {"rc=crf", "crf=23.0", "subme=7", "ref=3", "bframes=3", "rc_lookahead=40", "keyint=250"} <= set(settings)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.pix_fmt, stream.average_rate, stream.frames) == (pixel_format, 30, 5)


def test_what_cannot_be_written_is_said(tmp_path):
    for frames, crf, said in (
        (film(), 52, "crf is 52"), ([], 23, "no frames"), ([np.zeros((8, 8, 3))], 23, "float64"),
        (film(1, 33, 48), 23, "even sides"), (film(1) + film(1, 32, 32), 23, "one size"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            write_video(tmp_path / "a.mp4", frames, crf)
        assert list(tmp_path.iterdir()) == [], "nothing half-written is left"


def test_unreadable_files_are_named(tmp_path):
    for missing, said in ((tmp_path / "missing.mp4", "missing.mp4"), (tmp_path, "which is a folder")):
        with pytest.raises(FileNotFoundError, match=said):
            next(read_frames(missing))
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    for name, said in (("text.mp4", "text.mp4"), ("empty.mp4", "0 bytes")):
        with pytest.raises(VideoError, match=said):
            next(read_frames(tmp_path / name))


@pytest.mark.parametrize("crf", [0, 23, 40])
def test_wanted_frames_are_those_of_the_whole_video(tmp_path, crf):
    """Frames that were skipped on the way change nothing in those that were not."""
    write_video(tmp_path / "a.mp4", film(20), crf)
    whole, clip = list(read_frames(tmp_path / "a.mp4")), VideoClip(tmp_path / "a.mp4")
    assert (clip.total, clip.size, clip.numbers.tolist()) == (20, (48, 64), list(range(20)))
    np.testing.assert_allclose(clip.times, np.arange(20) / 25)
    for wanted in ({0}, {19}, {3, 4, 11}, set(range(1, 20, 2)), set(range(20))):
        got = dict(clip.frames(wanted))
        assert list(got) == sorted(wanted)
        np.testing.assert_array_equal(list(got.values()), [whole[number] for number in got])
    with pytest.raises(VideoError, match=r"has frames 0 to 19, and none of \[33\]"):
        list(clip.frames({2, 33}))


def test_unwanted_frames_that_no_other_needs_are_not_decoded(path):
    """Shown by spoiling one: whoever does not want it does not notice."""
    write_video(path, [np.roll(frame, 5 * number, axis=0) for number, frame in enumerate(film(20))], 5)
    clip = VideoClip(path)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    # After the four bytes of the length, two bits of the NAL unit's header say whether others refer to it.
    idle = next(p for p in packets if p.size > 40 and bytes(p)[4] & 31 == 1 and not bytes(p)[4] & 0x60)
    number = sorted(packet.pts for packet in packets).index(idle.pts)
    content = bytearray(path.read_bytes())
    content[idle.pos + 8 : idle.pos + idle.size] = bytes(idle.size - 8)
    path.write_bytes(content)
    assert len(list(clip.frames(set(range(20)) - {number}))) == 19
    with pytest.raises(VideoError):
        list(clip.frames({number}))


@pytest.mark.parametrize("name", ["with space.mp4", "Zürich – 東京.mp4", "data:x.mp4", "a%03d.mp4", "-i.mp4"])
def test_any_file_name(path, name, tmp_path, monkeypatch):
    path.rename(path.with_name(name))
    monkeypatch.chdir(tmp_path)
    assert VideoClip(name).total == sum(1 for _ in read_frames(name)) == 20


def test_cut_off_at_any_place(path):
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 200, 25).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(VideoError, match=r"a\.mp4"):
            list(VideoClip(path).frames(range(20)))


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mov"])
def test_half_a_file_is_no_whole_video(tmp_path, name):
    write_video(tmp_path / name, film(100), 23)
    assert VideoClip(tmp_path / name).total == 100
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match=r"a\.\w+ .*(breaks off|cannot be decoded)"):
        VideoClip(tmp_path / name)


def test_damaged_frames_are_not_passed_off_as_good(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, film(20), 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(VideoError, match="damaged"):
        list(VideoClip(path).frames({19}))


def test_a_playlist_in_a_videos_clothes_opens_nothing(path):
    fake = path.with_name("list.mp4")
    for text in (f"#EXTM3U\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n", f"ffconcat version 1.0\nfile {path.name}\n"):
        fake.write_text(text)
        with pytest.raises(VideoError, match=r"list\.mp4"):
            next(read_frames(fake))


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
        "for read in (video.VideoClip, lambda path: list(video.read_frames(path))):\n"
        "    try: read(sys.argv[1])\n"
        "    except video.VideoError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "huge.mp4")]
    *errors, growth = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(errors) == 2 and all("7000×7000" in error for error in errors)
    assert int(growth) * (1 if sys.platform == "darwin" else 1024) < 60e6
