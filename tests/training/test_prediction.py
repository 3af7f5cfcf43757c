import pytest
import torch
from sklearn.metrics import roc_auc_score

from addlib.detectors import create_detector
from addlib.faceforensics import FacePairs
from addlib.training import Predictions, autocast, centre, evaluate, predict
from addlib.training.engine import frozen_copy


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("resnet18_narrow")


def test_predictions_are_the_detectors(detector, prepared):
    data = FacePairs(prepared, "FaceSwap", "c40", "test")
    found = predict(detector, FacePairs(prepared, "FaceSwap", "c40", "test", device="cpu"), "mini", precision="32-true")
    assert detector.training
    crops = (data.arrays()[1].float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        answer = detector.eval()(crops[..., 4:124, 4:124])
    detector.train()
    torch.testing.assert_close(found.probabilities, answer.logits.double().softmax(1)[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.embeddings, answer.embedding, atol=1e-4, rtol=1e-4)
    assert found.labels.tolist() == data.labels.tolist()
    assert found.videos == list(data.videos) and found.frames == list(data.frames)
    assert not torch.equal(predict(detector, data, "mini", side="raw").probabilities, found.probabilities)
    with pytest.raises(ValueError, match="side is 'left'"):
        predict(detector, data, "mini", side="left")


def test_predicting_changes_nothing_that_others_see(detector, prepared):
    """The mode of each module, also after an error; torch's random numbers, whether crops are on disk or held; autocast."""
    disk, held = (FacePairs(prepared, "FaceSwap", "c40", "test", device=place) for place in (None, "cpu"))
    others = create_detector("resnet18_narrow", 3), torch.nn.DataParallel(detector)
    detector.train().stem.eval()
    modes, before = [module.training for module in detector.modules()], torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        inside = predict(detector, disk, "mini", precision="32-true").log_odds
    assert torch.equal(inside, predict(detector, held, "mini", precision="32-true").log_odds)
    for broken in others:
        with pytest.raises(ValueError, match="expected one or more of create_detector with two classes"):
            predict(broken, disk, "mini")
    with pytest.raises(RuntimeError, match="broken"):
        predict(detector.register_forward_hook(_fail) and detector, disk, "mini")
    detector._forward_hooks.clear()
    assert [module.training for module in detector.modules()] == modes and torch.equal(torch.get_rng_state(), before)
    detector.train()


def _fail(*_):
    raise RuntimeError("broken")


def test_metrics(detector, prepared):
    found = predict(detector, FacePairs(prepared, "FaceSwap", "c40", "train"), "mini", precision="32-true")
    row = evaluate(found)
    assert row["auc"] == pytest.approx(roc_auc_score(found.labels, found.probabilities), abs=1e-6)
    assert row["accuracy"] == pytest.approx(((found.probabilities > 0.5) == found.labels).double().mean().item())
    # Frames of one video are near each other, also for a detector that has learnt nothing.
    assert row["recall_at_1"] > row["recall_at_1_other"]
    odds, labels = torch.tensor([2.0, -1, 3]), torch.ones(3).long()
    one = evaluate(Predictions(odds, torch.randn(3, 4), labels, ["a/1"] * 3, [0, 1, 2]))
    undefined = {name for name, value in one.items() if value != value}
    assert undefined == {"auc", "eer", "recall_at_1_other", "video_auc"} and one["accuracy"] == pytest.approx(2 / 3)
    names = "accuracy auc eer ece recall_at_1 recall_at_1_other video_accuracy video_auc"
    assert list(one) == list(row) == names.split()


def test_a_frozen_teacher_is_a_copy_that_answers_as_well():
    """In bfloat16, where every layer rounds, it is as near to what the teacher answers in float32 as the teacher itself."""
    torch.manual_seed(0)
    detector = create_detector("resnet18_narrow").to(memory_format=torch.channels_last)
    crops = torch.randn(16, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(30):  # running statistics that fit
            detector(torch.randn_like(crops))
        frozen = frozen_copy(detector, "bf16-mixed")
        assert detector.training and all(p.requires_grad and p.dtype == torch.float32 for p in detector.parameters())
        assert not frozen.training and all(not p.requires_grad for p in frozen.parameters())
        kernels = [module.weight.dtype for module in frozen.modules() if isinstance(module, torch.nn.Conv2d)]
        assert kernels and set(kernels) == {torch.bfloat16}
        exact = detector.eval()(crops).stages
        with autocast("cpu", "bf16-mixed"):
            usual, found = detector(crops).stages, frozen(crops).stages
    for own, other, wanted in zip(found, usual, exact, strict=True):
        assert (own.float() - wanted).norm() < (other.float() - wanted).norm()


def test_centre():
    crops = torch.arange(25).view(1, 5, 5)
    assert centre(crops, 0).shape == (1, 5, 5) and centre(crops, 3).tolist() == [[[6, 7], [11, 12]]]
