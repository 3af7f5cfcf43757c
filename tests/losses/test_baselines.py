import math

import pytest
import torch

from addlib.losses import (
    AttentionTransferLoss,
    HintLoss,
    NonLocalBlock,
    NonLocalLoss,
    SoftTargetLoss,
    attention_map,
    attention_transfer_loss,
    hint_loss,
    non_local_loss,
    soft_target_loss,
)

# --- FitNet ---


def test_paper_variant_is_half_the_squared_distance():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, 6.0], [0.0, 1.0]])
    assert hint_loss(student, teacher).item() == (25 + 1) / 2 / 2


def test_published_variant_is_the_angle():
    angles = torch.tensor([0.0, 30.0, 90.0, 180.0]).deg2rad()
    teacher = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    student = 5 * torch.stack([angles.cos(), angles.sin()], 1)
    expected = sum(2 - 2 * math.cos(a) for a in angles.tolist()) / 4
    assert hint_loss(student, teacher, variant="published").item() == pytest.approx(expected, abs=1e-6)


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


# --- attention transfer ---


def test_attention_transfer_matches_the_loops(maps, oracle, device):
    student, _ = maps((3, 4, 3, 5), device=device)
    _, teacher = maps((3, 7, 3, 5), device=device)
    expected = oracle.attention_transfer(student.detach().cpu().numpy(), teacher.cpu().numpy())
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert AttentionTransferLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_map_has_length_one_and_does_not_see_scale(maps):
    features, _ = maps((3, 4, 3, 5), dtype=torch.float32)
    seen = attention_map(features)
    torch.testing.assert_close(seen.flatten(1).norm(dim=1), torch.ones(3))
    for scale in (1e-9, -3.0, 1e15):
        torch.testing.assert_close(attention_map(scale * features), seen)


# --- non-local ---


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
    for weight in weights:
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.05)
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
    non_local_loss(student, teacher, block).backward()
    constant = block(teacher).detach()
    expected = torch.autograd.grad((block(student) - constant).square().mean(), block.gate)[0]
    torch.testing.assert_close(block.gate.grad, expected)


def test_both_sides_see_the_same_weights(maps):
    """In training mode the spectral norm moves with every use; equal maps still give zero."""
    block = NonLocalBlock(6).train()
    with torch.no_grad():
        block.gate.fill_(1.0)
    student = maps((2, 6, 3, 2), dtype=torch.float32)[0]
    assert non_local_loss(student, student.detach(), block).item() == 0


# --- soft targets ---


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
    assert soft_target_loss(student, teacher, temperature=temperature).item() == pytest.approx(expected, rel=1e-12)
    assert SoftTargetLoss(temperature)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


# --- all ---

BASELINES = {
    "hint": hint_loss,
    "hint, published": lambda s, t: hint_loss(s, t, variant="published"),
    "attention transfer": attention_transfer_loss,
    "soft targets": soft_target_loss,
}


@pytest.mark.parametrize("loss", BASELINES.values(), ids=BASELINES)
def test_gradients_and_minimum(loss, maps, device):
    student, teacher = maps((2, 3, 3, 2), device=device)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, teacher), student)
    least = loss(student, student.detach().clone())
    assert least.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(least, student)[0].abs().max() < 1e-12


def test_non_local_gradient(block, maps, device):
    student, teacher = maps((2, 6, 2, 2), device=device)
    assert torch.autograd.gradcheck(lambda x: non_local_loss(x, teacher, block), student)


def test_errors_name_the_remedy():
    flat, half = torch.zeros(3, 6), torch.zeros(3, 4)
    stage, other = torch.zeros(2, 6, 4, 4), torch.zeros(2, 6, 5, 4)
    for call, words in (
        (lambda: hint_loss(flat, half), r"\(3, 6\) against \(3, 4\); use HintLoss"),
        (lambda: hint_loss(flat[0], flat[0]), r"student is \(6,\), expected embeddings \(B, D\)"),
        (lambda: hint_loss(flat, flat.long()), r"teacher holds torch.int64.*\.float\(\)"),
        (lambda: hint_loss(flat, flat, variant="cosine"), "variant is 'cosine', expected one of 'paper', 'published'"),
        (lambda: HintLoss(6), "expected both or neither"),
        (lambda: attention_transfer_loss(stage, other), r"\(2, 6, 4, 4\) against \(2, 6, 5, 4\).*resize one map"),
        (lambda: attention_transfer_loss(flat, other), r"student has shape \(3, 6\)"),
        (lambda: NonLocalLoss([4])([stage], [stage]), "features have 6 channels, expected 4"),
        (lambda: NonLocalLoss([6])([stage], [stage] * 2), "1 student and 2 teacher stages, expected 1 of each"),
        (lambda: NonLocalLoss([]), "channels are empty"),
        (lambda: NonLocalBlock(0), "channels=0 and reduction=8"),
        (lambda: soft_target_loss(flat, half), r"\(3, 6\) against \(3, 4\); give both networks the same classes"),
        (lambda: soft_target_loss(flat, flat, temperature=0), "temperature is 0, expected more than 0"),
        (lambda: SoftTargetLoss(-1), "temperature is -1"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
