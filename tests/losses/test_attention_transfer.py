import pytest
import torch

from addlib.losses import AttentionTransferLoss, attention_map, attention_transfer_loss


def test_value_matches_the_loops(maps, oracle, device):
    student, _ = maps((3, 4, 3, 5), device=device)
    _, teacher = maps((3, 7, 3, 5), device=device)
    expected = oracle.attention_transfer(student.detach().cpu().numpy(), teacher.cpu().numpy())
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert AttentionTransferLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_gradients(maps, device):
    student, teacher = maps((2, 3, 3, 2), device=device)
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention_transfer_loss(x, teacher.detach()), student)
    assert torch.autograd.gradgradcheck(lambda x: attention_transfer_loss(x, teacher.detach()), student)
    assert torch.autograd.grad(attention_transfer_loss(student, teacher), teacher, allow_unused=True)[0] is None


def test_map_has_length_one_and_does_not_see_scale(maps):
    features, _ = maps((3, 4, 3, 5), dtype=torch.float32)
    seen = attention_map(features)
    torch.testing.assert_close(seen.flatten(1).norm(dim=1), torch.ones(3))
    for scale in (1e-9, -3.0, 1e15):
        torch.testing.assert_close(attention_map(scale * features), seen)


def test_equal_maps_give_zero(maps):
    student, _ = maps((3, 4, 3, 5))
    loss = attention_transfer_loss(student, 2 * student.detach())
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-12


def test_autocast_changes_nothing(maps, device):
    student, teacher = maps((2, 8, 4, 4), dtype=torch.bfloat16, device=device)
    expected = attention_transfer_loss(student.float(), teacher.float())
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = attention_transfer_loss(student, teacher)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) against \(2, 3, 5, 4\).*resize one map"):
        attention_transfer_loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 5, 4))
    with pytest.raises(ValueError, match=r"student has shape \(2, 3\)"):
        attention_transfer_loss(torch.zeros(2, 3), torch.zeros(2, 3, 5, 4))
