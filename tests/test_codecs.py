import av
import numpy as np
import pytest

import spectra
from addlib import codecs
from addlib.codecs import CONDITIONS, missing, parse, payload, recode
from addlib.video import VideoError, write_video

# One of each kind that is neither H.264 nor written by OpenCV.
OTHERS = [c for c in ("h265 30", "vp9 45", "av1 45") if c not in missing([c])]


def error(one, other):
    one, other = (list(each.frames.values()) if isinstance(each, codecs.Recoded) else each for each in (one, other))
    return np.mean((np.stack(one).astype(float) - np.stack(other)) ** 2)


def test_steps_of_a_condition():
    assert parse("h264 23 > half > jpeg 30") == (("h264", 23), ("half", None), ("jpeg", 30))
    wrong = ",mpeg2 5,h264,h264 52,h264 -1,h264 23.5,vp9 64,jpeg 0,half 3,h264 23 >,H264 23,h264 23 40"
    for condition in wrong.split(","):
        with pytest.raises(ValueError, match=r"condition .* none of half, h264 0\.\.51"):
            recode([], condition)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_keeps_the_scene_and_says_its_rate(condition, walk, capfd):
    if lacking := missing([condition]):
        pytest.skip(lacking[condition])
    seen = recode(walk, condition)
    assert list(seen.frames) == list(range(len(walk)))
    assert all(frame.shape == walk[0].shape and frame.dtype == np.uint8 for frame in seen.frames.values())
    assert 0 < error(seen, walk) < 0.5 * error(seen, walk[1:] + walk[:1]), "it shows another moment"
    assert 0 < seen.kbits < 5000
    assert capfd.readouterr() == ("", ""), "an encoder talks"


@pytest.mark.parametrize("family", ["h264 23, h264 40", "h265 24, h265 38", "vp9 40, vp9 63", "av1 38, av1 63"])
def test_a_worse_quality_loses_more_and_takes_less(family, walk):
    if lacking := missing(family.split(", ")):
        pytest.skip(str(lacking))
    fine, coarse = (recode(walk, condition) for condition in family.split(", "))
    assert error(fine, walk) < error(coarse, walk) and fine.kbits > coarse.kbits


@pytest.mark.parametrize("condition", ["h264 23", "jpeg 75", "half > h264 23", *OTHERS])
def test_odd_sides_come_back(condition, walk):
    odd = [frame[:131, :97] for frame in walk[:3]]
    seen = recode(odd, condition)
    assert seen.frames[2].shape == (131, 97, 3) and error(seen, odd) < 200


@pytest.mark.parametrize("condition", OTHERS)
def test_same_frames_same_pictures(condition, walk):
    # With other memory in between, as in tests/test_video.py, where x264's AVX-512 code failed.
    rng, found = np.random.default_rng(1), []
    for _ in range(8):
        clutter = [rng.random((rng.integers(100, 400), 224, 3)) for _ in range(3)]
        found.append(recode(walk[:4], condition))
        del clutter
    assert all(error(found[0], list(other.frames.values())) == 0 and found[0].kbits == other.kbits for other in found)


def test_half_takes_the_upper_half_of_the_frequencies(walk):
    seen = recode(walk, "half")
    before, after = (spectra.luminance(np.stack(list(frames))) for frames in (walk, seen.frames.values()))
    low, _, high = spectra.retained(before, after, [0.02, 0.06, 0.35, 0.5])
    assert low > 0.95 and high < 0.15
    assert np.isnan(seen.kbits), "nothing was coded"


def test_a_chain_is_its_steps_and_its_rate_that_of_the_last_coding(walk):
    first = recode(walk, "h264 23")
    halved = recode(first.frames.values(), "half")
    last, chain = recode(halved.frames.values(), "h264 40"), recode(walk, "h264 23 > half > h264 40")
    assert error(chain, list(last.frames.values())) == 0 and chain.kbits == last.kbits
    assert recode(walk, "h264 23 > half").kbits == first.kbits


def test_only_the_wanted_frames_are_returned(walk):
    whole, some = recode(walk, "jpeg 75"), recode(iter(walk), "jpeg 75", wanted={2, 7}, fps=75)
    assert list(some.frames) == [2, 7] and some.kbits == pytest.approx(3 * whole.kbits), "three times the speed"
    assert all((some.frames[number] == whole.frames[number]).all() for number in (2, 7))
    assert list(recode(walk, "jpeg 75", wanted=iter([2, 7])).frames) == [2, 7]
    wrong = ({"wanted": [99]}, r"wanted are \[99\]; there are frames 0 to"), ({"fps": -5}, "fps is -5"), ({"fps": np.nan}, "fps is nan")
    for arguments, said in wrong:
        with pytest.raises(ValueError, match=said):
            recode(walk, "jpeg 75", **arguments)


@pytest.mark.parametrize("condition", ["h264 23", "jpeg 75", "half", *OTHERS])
def test_bad_frames_are_named(condition, walk):
    for frames, said in (([], "no frames|0 of 0"), ([walk[0] / 2], "float64"), ([walk[0], walk[0][:100]], "one size")):
        with pytest.raises(ValueError, match=said):
            recode(frames, condition)


def test_missing_encoders_are_listed_and_named(monkeypatch, walk):
    monkeypatch.setitem(codecs.CODECS, "av1", codecs.Codec("libnothing", 63))
    lacking = missing(["h264 23", "av1 38", "half > av1 63"])
    assert list(lacking) == ["av1 38", "half > av1 63"] and "libnothing" in lacking["av1 38"]
    with pytest.raises(ValueError, match="libnothing"):
        recode(walk, "av1 38")


def test_payload_leaves_the_encoders_remark_out(tmp_path, walk):
    write_video(tmp_path / "a.mp4", walk, 40)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    first, remark = packets[0], 0
    while first:  # units of a stream in MP4: four bytes of length, then the unit, whose type is in its first byte
        length = int.from_bytes(first[:4], "big") + 4
        remark += length if first[4] & 31 == 6 else 0
        first = first[length:]
    assert remark > 500 and payload(tmp_path / "a.mp4") == sum(map(len, packets)) - remark
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(VideoError):
        payload(tmp_path / "text.mp4")
