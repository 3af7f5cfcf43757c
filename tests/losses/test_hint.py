import math

import pytest
import torch

from addlib.losses import HintLoss, hint_loss


def test_paper_variant_is_half_the_squared_distance():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, 6.0], [0.0, 1.0]])
    assert hint_loss(student, teacher).item() == (25 + 1) / 2 / 2


def test_published_variant_is_the_angle():
    angles = torch.tensor([0.0, 30.0, 90.0, 180.0]).deg2rad()
    teacher = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    student = 5 * torch.stack([angles.cos(), angles.sin()], 1)
    expected = sum(2 - 2 * math.cos(a) for a in angles.tolist()) / 4
    assert hint_loss(student, teacher, variant="published").item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_gradients(variant, device):
    student = torch.randn(3, 5, dtype=torch.float64, device=device, requires_grad=True)
    teacher = torch.randn(3, 5, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: hint_loss(x, teacher.detach(), variant=variant), student)
    assert torch.autograd.gradgradcheck(lambda x: hint_loss(x, teacher.detach(), variant=variant), student)
    assert torch.autograd.grad(hint_loss(student, teacher, variant=variant), teacher, allow_unused=True)[0] is None


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_equal_embeddings_give_zero(variant):
    student = torch.randn(3, 5, requires_grad=True)
    loss = hint_loss(student, student.detach().clone(), variant=variant)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-6


def test_regressor_bridges_widths():
    loss = HintLoss(6, 4)
    student, teacher = torch.randn(3, 6, requires_grad=True), torch.randn(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, hint_loss(loss.regressor(student), teacher))
    value.backward()
    assert student.grad is not None and loss.regressor.weight.grad is not None
    assert not list(HintLoss().parameters()) and not list(HintLoss(4, 4).parameters())


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match=r"\(3, 6\) against \(3, 4\); use HintLoss"):
        hint_loss(torch.zeros(3, 6), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"student is \(6,\), expected embeddings \(B, D\)"):
        hint_loss(torch.zeros(6), torch.zeros(6))
    with pytest.raises(ValueError, match=r"teacher holds torch.int64.*\.float\(\)"):
        hint_loss(torch.zeros(2, 6), torch.zeros(2, 6).long())
    with pytest.raises(ValueError, match="variant is 'cosine', expected one of 'paper', 'published'"):
        hint_loss(torch.zeros(2, 6), torch.zeros(2, 6), variant="cosine")
    with pytest.raises(ValueError, match="expected both or neither"):
        HintLoss(6)
