import math

import pytest
import torch

from addlib import losses


def test_hint_is_half_the_squared_distance_or_the_angle():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, 6.0], [0.0, 1.0]])
    assert losses.hint_loss(student, teacher).item() == (25 + 1) / 2 / 2
    angles = torch.tensor([0.0, 30.0, 90.0, 180.0]).deg2rad()
    student, teacher = 5 * torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([[1.0, 0.0]]).expand(4, 2)
    expected = sum(2 - 2 * math.cos(a) for a in angles.tolist()) / 4
    assert losses.hint_loss(student, teacher, variant="published").item() == pytest.approx(expected, abs=1e-6)


def test_regressor_bridges_widths():
    loss = losses.HintLoss(6, 4)
    student, teacher = torch.randn(3, 6, requires_grad=True), torch.randn(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    torch.testing.assert_close(value, losses.hint_loss(loss.regressor(student), teacher))
    value.backward()
    assert student.grad is not None and loss.regressor.weight.grad is not None
    assert not list(losses.HintLoss().parameters()) and not list(losses.HintLoss(4, 4).parameters())


def test_attention_transfer_matches_the_loops(maps, oracle, device):
    student, teacher = maps((3, 4, 3, 5), device=device)[0], maps((3, 7, 3, 5), device=device)[1]
    expected = oracle.attention_transfer(student.detach().cpu().numpy(), teacher.cpu().numpy())
    assert losses.AttentionTransferLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def block(device):
    block = losses.NonLocalBlock(6, reduction=2).double().to(device).eval()
    with torch.no_grad():
        block.gate.fill_(0.7)
    return block


def test_block_matches_the_loops(block, maps, device):
    """y_i = sum over j of softmax_j(theta_i . phi_j) g_j."""
    features = maps((2, 6, 3, 2), device=device)[1]
    found = block(features)
    weights = [layer.weight.detach()[:, :, 0, 0] for layer in (block.theta, block.phi, block.g, block.out)]
    for weight in weights:
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.05)
    for b in range(2):
        points = features[b].flatten(1).t()
        theta, phi, g = (points @ weight.t() for weight in weights[:3])
        for i in range(6):
            scores = torch.stack([(theta[i] * phi[j]).sum() for j in range(6)]).exp()
            gathered = sum(score / scores.sum() * g[j] for j, score in enumerate(scores))
            torch.testing.assert_close(found[b].flatten(1)[:, i], points[i] + 0.7 * (weights[3] @ gathered))


def test_non_local_learns_from_the_student_only(block, maps, device):
    student, teacher = maps((2, 6, 3, 2), device=device)
    losses.non_local_loss(student, teacher, block).backward()
    expected = torch.autograd.grad((block(student) - block(teacher).detach()).square().mean(), block.gate)[0]
    torch.testing.assert_close(block.gate.grad, expected)
    closed = losses.NonLocalLoss([6]).double().to(device)([student], [teacher])
    torch.testing.assert_close(closed, (student - teacher).square().mean())


def test_both_sides_see_the_same_weights(block, maps, device):
    """In training mode the spectral norm moves with every use; equal maps still give zero."""
    student, _ = maps((2, 6, 3, 2), device=device)
    assert losses.non_local_loss(student, student.detach(), block.train()).item() == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_match_the_sums(temperature):
    student = torch.tensor([[2.0, 0.5], [-1.0, 3.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    expected = 0.0
    for own, their in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = (
            [math.exp(z / temperature) / sum(math.exp(other / temperature) for other in logits) for z in logits]
            for logits in (their, own)
        )
        expected += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert losses.SoftTargetLoss(temperature)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


FLAT, MAP = torch.zeros(3, 6), torch.zeros(2, 6, 4, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: losses.hint_loss(FLAT, FLAT[:, :4]), r"student and teacher differ: \(3, 6\).*against \(3, 4\)"),
        (lambda: losses.hint_loss(FLAT[0], FLAT[0]), r"student is \(6,\) .*\(B, N\)"),
        (lambda: losses.hint_loss(FLAT, FLAT.long()), "teacher is .*torch.int64.*floating point"),
        (lambda: losses.hint_loss(FLAT, FLAT, variant="cosine"), "variant is 'cosine', expected one of 'paper'"),
        (lambda: losses.attention_transfer_loss(MAP, MAP[:, :3, :1]), r"differ: \(2, 4, 4\).*against \(2, 1, 4\)"),
        (lambda: losses.attention_transfer_loss(FLAT, MAP), r"\(3, 6\) .*\(B, C, H, W\)"),
        (lambda: losses.NonLocalLoss([6])([MAP], [MAP] * 2), "argument 2 is longer"),
        (lambda: losses.soft_target_loss(FLAT, FLAT, temperature=0), "temperature is 0, expected .* above 0"),
        (lambda: losses.SoftTargetLoss(-1), "temperature is -1"),
        (lambda: losses.soft_target_loss(FLAT[:, :1], FLAT[:, :1]), r"student is \(3, 1\).*two classes or more"),
        (lambda: losses.soft_target_loss(MAP, MAP), r"student is \(2, 6, 4, 4\).*\(B, classes\)"),
        (lambda: losses.HintLoss(512), "a width is None"),
    ],
)
def test_errors_name_the_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()
