"""Small trees to spoil, written with any time stamps. Helpers come as fixtures."""

from fractions import Fraction

import av
import pytest

from addlib import video

FACTORS = {"raw": 0, "c23": 23, "c40": 40}


@pytest.fixture(scope="session")
def write_timed():
    def write(path, frames, stamps, rate=25):
        """An H.264 file whose frames are shown at the given multiples of 1/rate seconds."""
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "23"}
            stream.codec_context.thread_count = 1
            for frame, stamp in zip(frames, stamps, strict=True):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts, picture.time_base = stamp, Fraction(1, rate)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))

    return write


@pytest.fixture(scope="session")
def plant():
    def write(root, frames, names=("000",), folder="original_sequences/youtube"):
        """A tree of videos with the same frames; returns {(name, quality): path}."""
        paths = {(n, q): root / folder / q / "videos" / f"{n}.mp4" for n in names for q in FACTORS}
        for (_, quality), path in paths.items():
            video.write_video(path, frames, FACTORS[quality])
        return paths

    return write
