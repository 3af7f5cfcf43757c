import copy

import numpy as np
import pytest
import torch
from PIL import Image

from addlib.detectors import create_detector, normalisation
from addlib.faces import crop, largest_face
from addlib.judge import judge, plot
from addlib.video import read_frames, write_video


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_detector("resnet18_narrow").eval()


def test_every_face_is_judged_as_by_hand_and_the_detector_left_as_it_was(clip, detector):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.train()
    found = judge(clip, detector, shift=8)
    assert detector.training and all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    detector.eval()
    assert found.faces == len(found.frames) == 10 and found.crops.shape == (10, 128, 128, 3)
    frame = list(read_frames(clip))[3]
    box = largest_face(frame)
    assert found.frames.loc[3, ["left", "top", "right", "bottom"]].tolist() == list(box)
    middle = torch.from_numpy(crop(frame, box)).permute(2, 0, 1)[None, :, 4:124, 4:124]
    mean, std = normalisation("resnet18_narrow")
    with torch.no_grad():
        expected = detector((middle / 255 - mean) / std).logits.softmax(1)[0, 1].item()
    assert found.frames.loc[3, "probability"] == pytest.approx(expected, abs=1e-5)
    assert found.probability == pytest.approx(found.frames["probability"].mean())
    assert found.frames["time"].tolist() == pytest.approx([number / 25 for number in range(10)])
    assert judge(clip, detector, frames=4).frames["frame"].tolist() == [0, 3, 6, 9]


def test_several_detectors_answer_by_their_mean_log_odds(clip, detector):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = create_detector("resnet18_narrow").eval()
    alone = [judge(clip, each, frames=2).frames["probability"] for each in (detector, other)]
    odds = np.mean([np.log(each / (1 - each)) for each in alone], axis=0)
    together = judge(clip, [detector, other], frames=2).frames["probability"]
    assert together.to_numpy() == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6) and not np.allclose(*alone, atol=1e-3)


def test_frames_without_a_face(tmp_path, clip, detector):
    frames = list(read_frames(clip))
    write_video(tmp_path / "half.mp4", frames[:5] + [np.zeros_like(frames[0])] * 5, crf=18)
    found = judge(tmp_path / "half.mp4", detector)
    assert found.faces == 5 and found.frames["probability"].isna().tolist() == [False] * 5 + [True] * 5
    write_video(tmp_path / "none.mp4", [np.zeros_like(frames[0])] * 3, crf=18)
    nothing = judge(tmp_path / "none.mp4", detector)
    assert nothing.faces == 0 and np.isnan(nothing.probability) and plot(nothing) is not None
    assert nothing.verdict() == "not judged: no frontal face was found, a face in 0 of 3 frames"


def test_verdict_says_threshold_and_other_people(tmp_path, clip, detector):
    frame = next(read_frames(clip))
    two = np.concatenate([frame, frame[:, ::-1]], 1)
    write_video(tmp_path / "two.mp4", [two, two, np.concatenate([frame, np.zeros_like(frame)], 1)], crf=5)
    found = judge(tmp_path / "two.mp4", detector)
    assert found.frames["people"].tolist() == [2, 2, 1] and found.faces == 3
    threshold = found.probability - 0.01
    said = found.verdict(threshold)
    assert said.startswith(f"fake, probability of fake {found.probability:.3f} (threshold {threshold:g})")
    assert said.endswith("a face in 3 of 3 frames; more than one person in 2 of them, the largest face judged")
    assert found.verdict(found.probability + 0.01).startswith("real")


def test_pictures_are_judged(tmp_path, clip, detector):
    for number, frame in enumerate(read_frames(clip)):
        if number < 2:
            Image.fromarray(frame).save(tmp_path / f"IMG_{number}.jpg", quality=95)
    one, both = judge(tmp_path / "IMG_0.jpg", detector), judge(tmp_path, detector)
    assert one.faces == len(one.frames) == 1 and both.faces == 2
    assert both.frames["probability"][0] == pytest.approx(one.probability)
    assert plot({"one": one, "both": both}).axes[1].get_title() == "both"


def test_the_plot_has_the_line_of_the_threshold_and_names_as_they_are(clip, detector):
    figure = plot({"price $5 $^2": judge(clip, detector, frames=1)}, threshold=0.9)
    (axis,) = figure.axes
    assert axis.lines[-1].get_ydata()[0] == 0.9 and axis.get_title() == "price $5 $^2"


def test_a_network_that_answers_no_number_is_not_taken_for_real(clip, detector):
    broken = copy.deepcopy(detector)
    torch.nn.init.constant_(broken.head.bias, float("nan"))
    with pytest.raises(ValueError, match="answers no number to 2 of 2 faces"):
        judge(clip, broken, frames=2)


def test_settings_that_do_not_fit(clip, detector, tmp_path):
    with pytest.raises(ValueError, match="frames is 0"):
        judge(clip, detector, frames=0)
    for wrong in (torch.nn.Identity(), [detector, torch.nn.Identity()], []):
        with pytest.raises(ValueError, match="one or more of create_detector with two classes"):
            judge(clip, wrong)
    with pytest.raises(FileNotFoundError):
        judge(tmp_path / "nowhere.mp4", detector)
