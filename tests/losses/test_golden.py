"""Values and gradients that the published functions returned, on stored inputs, directions and pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from addlib.losses import attention_transfer_loss, frequency_attention_loss, hint_loss, multi_view_attention_loss


def check(loss, inputs, value, gradient):
    """Within 1e-4: of the value, and of the largest entry of the gradient."""
    assert loss.item() == pytest.approx(value.item(), rel=1e-4)
    (found,) = torch.autograd.grad(loss, inputs)
    expected = torch.from_numpy(gradient)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.fixture(params=["a", "b"])
def case(request):
    """The arrays of one case under their own names, the maps as tensors."""
    golden = np.load(Path(__file__).parent / "golden" / "published_losses.npz")
    found = {key.split("/")[1]: value for key, value in golden.items() if key.startswith(request.param)}
    return found | {name: torch.from_numpy(found[name]) for name in ("student", "teacher", "labels", "directions")}


def all_pairs(case):
    """The stored pairs, (K, 2, n) for the samples of each class, as (same, other), each (K, 2, B)."""
    labels, views = case["labels"], len(case["directions"])
    result = []
    for kind in ("true", "false"):
        index = torch.full((views, 2, len(labels)), -1)
        for label, name in ((1, "pos"), (0, "neg")):
            index[..., labels == label] = torch.from_numpy(case[f"pairs_{kind}_{name}"])
        result.append(index)
    return tuple(result)


@pytest.mark.parametrize("gamma", ["0.0", "0.01", "1.0"])
def test_frequency(case, gamma):
    student = case["student"].requires_grad_()
    loss = frequency_attention_loss(student, case["teacher"], gamma=float(gamma))
    check(loss, student, case[f"fr_gamma{gamma}"], case[f"fr_gamma{gamma}_grad"])


@pytest.mark.parametrize("eta", [0, 50])
def test_multi_view(case, eta):
    student = case["student"].requires_grad_()
    options = {"directions": case["directions"], "pairs": all_pairs(case), "eta": eta, "variant": "published"}
    loss = multi_view_attention_loss(student, case["teacher"], case["labels"], **options)
    check(loss, student, case[f"mv_eta{eta}"], case[f"mv_eta{eta}_grad"])


def test_attention_transfer(case):
    student = case["student"].requires_grad_()
    check(attention_transfer_loss(student, case["teacher"]), student, case["at"], case["at_grad"])


def test_hint(case):
    student = torch.from_numpy(case["fitnet_student"]).requires_grad_()
    loss = hint_loss(student, torch.from_numpy(case["fitnet_teacher"]), variant="published")
    check(loss, student, case["fitnet"], case["fitnet_grad"])
