import numpy as np
import pandas as pd
import pytest
import torch

from addlib.cli import main
from addlib.detectors import create_detector, normalisation, read_detector, save_weights
from addlib.faces import crop, largest_face
from addlib.judging import judge, plot
from addlib.miniforensics import render_video
from addlib.reading import read_frames
from addlib.video import write_video

ABOUT = {"manipulation": "FaceSwap", "quality": "c40", "distiller": "add", "recipe": "mini", "changes": {"epochs": 1}}


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_detector("resnet18_narrow").eval()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Ten frames of a drawn face."""
    path = tmp_path_factory.mktemp("judging") / "one.mp4"
    write_video(path, render_video(0, 0, 1, 10)["original"], crf=23)
    return path


def test_every_face_is_judged_as_by_hand(video, detector):
    found = judge(video, detector, frames=64, shift=8)
    assert found.faces == len(found.frames) == 10 and found.crops.shape == (10, 128, 128, 3)
    frame = list(read_frames(video))[3]
    box = largest_face(frame)
    assert found.frames.loc[3, ["left", "top", "right", "bottom"]].tolist() == list(box)
    middle = torch.from_numpy(crop(frame, box)).permute(2, 0, 1)[None, :, 4:124, 4:124]
    mean, std = normalisation("resnet18_narrow")
    with torch.no_grad():
        expected = detector((middle / 255 - mean) / std).logits.softmax(1)[0, 1].item()
    assert found.frames.loc[3, "probability"] == pytest.approx(expected, abs=1e-5)
    assert found.probability == pytest.approx(found.frames["probability"].mean())
    assert found.frames["time"].tolist() == pytest.approx([number / 25 for number in range(10)])


def test_a_detector_in_training_is_judged_as_in_evaluation(video, detector):
    expected = judge(video, detector, frames=4).frames["probability"]
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.train()
    try:
        found = judge(video, detector, frames=4).frames["probability"]
        assert detector.training, "left as it was"
    finally:
        detector.eval()
    assert found.tolist() == expected.tolist()
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_frames_are_spread_over_the_video(video, detector):
    assert judge(video, detector, frames=4).frames["frame"].tolist() == [0, 3, 6, 9]
    assert judge(video, detector, frames=1).frames["frame"].tolist() == [0]


def test_frames_without_a_face(tmp_path, video, detector):
    frames = list(read_frames(video))
    write_video(tmp_path / "half.mp4", frames[:5] + [np.zeros_like(frames[0])] * 5, crf=18)
    found = judge(tmp_path / "half.mp4", detector)
    assert found.faces == 5 and found.frames["probability"].isna().tolist() == [False] * 5 + [True] * 5
    write_video(tmp_path / "none.mp4", [np.zeros_like(frames[0])] * 3, crf=18)
    nothing = judge(tmp_path / "none.mp4", detector)
    assert nothing.faces == 0 and np.isnan(nothing.probability) and plot(nothing) is not None


def test_settings_that_do_not_fit(video, detector, tmp_path):
    with pytest.raises(ValueError, match="frames is 0"):
        judge(video, detector, frames=0)
    with pytest.raises(ValueError, match="two classes"):
        judge(video, torch.nn.Identity())
    with pytest.raises(FileNotFoundError):
        judge(tmp_path / "nowhere.mp4", detector)


def test_a_file_of_weights_says_what_it_is(tmp_path, detector):
    path = tmp_path / "weights.safetensors"
    save_weights(detector, path, ABOUT)
    again, about = read_detector(path)
    assert about == ABOUT and again.name == "resnet18_narrow" and not again.training
    x = torch.zeros(1, 3, 64, 64)
    assert torch.equal(again(x).logits, detector(x).logits)
    torch.save(detector.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="does not say which detector"):
        read_detector(tmp_path / "bare.pt")


def test_command(tmp_path, video, detector, capsys):
    weights = tmp_path / "weights.safetensors"
    save_weights(detector, weights, ABOUT)
    table, picture = tmp_path / "scores.csv", tmp_path / "scores.png"
    options = ["--weights", str(weights), "--frames", "3"]
    assert main(["predict", str(video), *options, "--csv", str(table), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "trained on: manipulation FaceSwap, quality c40, distiller add" in said
    expected = judge(video, detector, frames=3, shift=8).probability
    assert f"fake with probability {expected:.3f}, a face in 3 of 3 frames" in said
    assert pd.read_csv(table)["probability"].mean() == pytest.approx(expected)
    assert picture.read_bytes().startswith(b"\x89PNG")

    assert main(["predict", str(video), str(tmp_path / "nowhere.mp4"), *options]) == 1
    said = capsys.readouterr()
    assert "nowhere.mp4" in said.err and "a face in 3 of 3 frames" in said.out
    assert main(["predict", str(video), str(video), *options, "--plot", str(picture)]) == 1
    assert "--plot is for one video, there are 2" in capsys.readouterr().err
