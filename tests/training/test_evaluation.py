import pytest
import torch
from sklearn.metrics import roc_auc_score

from addlib.detectors import create_detector
from addlib.faceforensics import FacePairs
from addlib.training import evaluate, predict
from addlib.training.loading import load_pairs
from addlib.training.task import centre


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("resnet18_narrow")


def test_predictions_are_the_detectors(detector, prepared):
    pairs = load_pairs(prepared, "FaceSwap", "c40", "test")
    found = predict(detector, pairs, "mini", precision="32-true", batch_size=3)
    assert detector.training
    data = FacePairs(prepared, "FaceSwap", "c40", "test")
    detector.eval()
    for index in range(len(data)):
        crop = (data[index][1].float() / 255 - 0.5) / 0.5
        with torch.no_grad():
            answer = detector(crop[None, :, 4:124, 4:124])
        wanted = answer.logits.double().softmax(1)[0, 1]
        assert found.probabilities[index] == pytest.approx(wanted.item(), abs=1e-5)
        torch.testing.assert_close(found.embeddings[index], answer.embedding[0], atol=1e-4, rtol=1e-4)
    detector.train()
    assert found.labels.tolist() == data.labels.tolist()
    assert found.videos == list(data.videos) and found.frames == list(data.frames)
    raw = predict(detector, pairs, "mini", side="raw")
    assert not torch.equal(raw.probabilities, found.probabilities)


def test_metrics(detector, prepared):
    found = predict(detector, load_pairs(prepared, "FaceSwap", "c40", "train"), "mini", precision="32-true")
    row = evaluate(found)
    wanted = roc_auc_score(found.labels.numpy(), found.probabilities.numpy())
    assert row["auc"] == pytest.approx(wanted, abs=1e-6)
    assert row["accuracy"] == pytest.approx(((found.probabilities > 0.5) == found.labels).double().mean().item())
    assert set(row) == {
        "accuracy", "auc", "eer", "ece", "recall_at_1", "recall_at_1_other", "video_accuracy", "video_auc",
    }  # fmt: skip
    # Frames of one video are near each other, also for a detector that has learnt nothing.
    assert row["recall_at_1"] > row["recall_at_1_other"]


def test_centre():
    crops = torch.arange(25).view(1, 5, 5)
    assert centre(crops, 0).shape == (1, 5, 5)
    assert centre(crops, 3).tolist() == [[[6, 7], [11, 12]]]


def test_unknown_side(detector, prepared):
    with pytest.raises(ValueError, match="side is 'left'"):
        predict(detector, load_pairs(prepared, "FaceSwap", "c40", "test"), "mini", side="left")
