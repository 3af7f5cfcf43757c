import pytest
import torch

from addlib.losses import NonLocalBlock, NonLocalLoss, non_local_loss


@pytest.fixture
def block(device):
    block = NonLocalBlock(6, reduction=2).double().to(device).eval()
    with torch.no_grad():
        block.gate.fill_(0.7)
    return block


def test_block_matches_the_loops(block, maps, device):
    """y_i = sum over j of softmax_j(theta_i . phi_j) g_j."""
    features = maps((2, 6, 3, 2), device=device)[1]
    result = block(features)
    weights = [layer.weight.detach()[:, :, 0, 0] for layer in (block.theta, block.phi, block.g, block.out)]
    for b in range(2):
        points = features[b].flatten(1).t()
        theta, phi, g = (points @ weight.t() for weight in weights[:3])
        for i in range(6):
            scores = torch.stack([(theta[i] * phi[j]).sum() for j in range(6)]).exp()
            gathered = sum(score / scores.sum() * g[j] for j, score in enumerate(scores))
            expected = points[i] + 0.7 * (weights[3] @ gathered)
            torch.testing.assert_close(result[b].flatten(1)[:, i], expected)


def test_closed_gate_is_the_mean_squared_difference(maps, device):
    student, teacher = maps((2, 6, 3, 2), dtype=torch.float32, device=device)
    loss = NonLocalLoss([6]).to(device)
    torch.testing.assert_close(loss([student], [teacher]), (student - teacher).square().mean())


def test_block_learns_from_the_student_only(block, maps, device):
    student, teacher = maps((2, 6, 3, 2), device=device)
    teacher.requires_grad_()
    non_local_loss(student, teacher, block).backward()
    assert teacher.grad is None and student.grad is not None
    assert block.gate.grad is not None and block.gate.grad != 0
    constant = block(teacher).detach()
    expected = torch.autograd.grad((block(student) - constant).square().mean(), block.gate)[0]
    torch.testing.assert_close(block.gate.grad, expected)


def test_gradcheck(block, maps, device):
    student, teacher = maps((2, 6, 2, 2), device=device)
    assert torch.autograd.gradcheck(lambda x: non_local_loss(x, teacher, block), student)


def test_both_sides_see_the_same_weights(maps):
    """In training mode the spectral norm moves with every use; equal maps still give zero."""
    torch.manual_seed(0)
    block = NonLocalBlock(6).train()
    with torch.no_grad():
        block.gate.fill_(1.0)
    student = maps((2, 6, 3, 2), dtype=torch.float32)[0]
    assert non_local_loss(student, student.detach(), block).item() == 0


def test_spectral_norm_is_one(block):
    for layer in (block.theta, block.phi, block.g, block.out):
        assert torch.linalg.matrix_norm(layer.weight[:, :, 0, 0], 2).item() == pytest.approx(1, abs=0.05)


def test_autocast_keeps_float32(maps, device):
    student, teacher = maps((2, 6, 3, 2), dtype=torch.bfloat16, device=device)
    loss = NonLocalLoss([6, 6]).to(device).eval()
    with torch.no_grad():
        for block in loss.blocks:
            block.gate.fill_(1.0)
    expected = loss([student.float()] * 2, [teacher.float()] * 2)
    with torch.autocast(device, dtype=torch.bfloat16):
        value = loss([student] * 2, [teacher] * 2)
    assert value.dtype == torch.float32 and torch.equal(value, expected)


def test_errors_name_the_remedy():
    loss = NonLocalLoss([6])
    with pytest.raises(ValueError, match="features have 4 channels, expected 6; one block for each stage"):
        loss([torch.zeros(2, 4, 3, 3)], [torch.zeros(2, 4, 3, 3)])
    with pytest.raises(ValueError, match="1 student and 2 teacher stages, expected 1 of each"):
        loss([torch.zeros(2, 6, 3, 3)], [torch.zeros(2, 6, 3, 3)] * 2)
    with pytest.raises(ValueError, match="channels are empty"):
        NonLocalLoss([])
    with pytest.raises(ValueError, match="channels=0 and reduction=8"):
        NonLocalBlock(0)
