import pytest
import torch

from addlib.losses import FrequencyAttentionLoss, frequency_attention, frequency_attention_loss

# By FFT, where there are few channels, and by Gram matrix.
SHAPES = [(2, 3, 4, 4), (3, 2, 4, 3), (1, 1, 5, 5), (2, 4, 6, 1)]
SHAPES += [(2, 9, 4, 4), (2, 6, 3, 4), (2, 4, 1, 6), (2, 3, 1, 1)]


def by_autograd(student, teacher, gamma, detach_weight):
    """The loss in plain differentiable operations: complex transforms of both maps."""
    distance = (torch.fft.fft2(student, norm="forward") - torch.fft.fft2(teacher, norm="forward")).abs().square()
    weight = torch.exp(gamma * distance.mean(1, keepdim=True))
    return ((weight.detach() if detach_weight else weight) * distance).sum((1, 2, 3)).mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.0, 1.0, 7.5])
def test_value_weight_and_energy_match_the_loops(shape, gamma, maps, oracle, device):
    student, teacher = maps(shape, device=device)
    value, weight, energy = oracle.frequency_loss(student.detach().cpu().numpy(), teacher.cpu().numpy(), gamma)
    assert frequency_attention_loss(student, teacher, gamma=gamma).item() == pytest.approx(value, rel=1e-12)
    seen = frequency_attention(student, teacher, gamma=gamma)
    torch.testing.assert_close(seen.weight.cpu(), torch.from_numpy(weight), rtol=1e-12, atol=0)
    torch.testing.assert_close(seen.energy.cpu(), torch.from_numpy(energy), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 15, 13), (2, 40, 8, 8), (100, 2, 3, 3)])
@pytest.mark.parametrize("detach_weight", [True, False])
def test_closed_form_gradient_matches_autograd(shape, detach_weight, maps, device):
    student, teacher = maps(shape, device=device)
    loss = FrequencyAttentionLoss(2.0, detach_weight)(student, teacher)
    expected = by_autograd(student, teacher, 2.0, detach_weight)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    slopes = [torch.autograd.grad(value, student)[0] for value in (loss, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [(4, 64, 16, 16), (4, 128, 8, 8), (4, 256, 4, 4)])
def test_float32_is_close_to_float64(shape, maps, device):
    student, teacher = maps(shape, dtype=torch.float32, device=device)
    precise = student.detach().double().requires_grad_()
    value, expected = frequency_attention_loss(student, teacher), frequency_attention_loss(precise, teacher.double())
    gradient, slope = torch.autograd.grad(value, student)[0], torch.autograd.grad(expected, precise)[0]
    assert value.dtype == torch.float32 and value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-6 * float(slope.abs().max()))


@pytest.mark.parametrize("channels", [3, 9])
def test_extremes_saturate(channels):
    """Weights stop at exp(40), differences at 2^50, half-precision gradients at their largest number.

    But an overflow that the scale of the loss causes must reach GradScaler as infinity.
    """
    largest = torch.full((1, channels, 4, 4), torch.finfo(torch.float32).max, requires_grad=True)
    (gradient,) = torch.autograd.grad(frequency_attention_loss(largest, -largest.detach()), largest)
    assert torch.isfinite(gradient).all() and (gradient > 0).all()
    weight = frequency_attention(largest, -largest.detach(), gamma=1e6).weight
    assert weight.max().item() == pytest.approx(2.353853e17, rel=1e-6)
    student = torch.full((1, channels, 4, 4), 6e4, dtype=torch.float16, requires_grad=True)
    loss = frequency_attention_loss(student, -student.detach())
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    assert torch.isfinite(loss) and (gradient == torch.finfo(torch.float16).max).all()
    assert torch.autograd.grad(loss * 2.0**16, student)[0].isinf().all()


def test_reduced_matmul_precision_changes_little(maps, device, monkeypatch):
    """TF32 and bfloat16 products are for the network: with them allowed, no matrix product is taken."""
    student, teacher = maps((2, 64, 4, 4), dtype=torch.float32, device=device)
    expected = frequency_attention_loss(student.double(), teacher.double())
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        monkeypatch.setattr(torch, "bmm", lambda *_: pytest.fail("a matrix product"))
        assert frequency_attention_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-6)
    finally:
        torch.set_float32_matmul_precision(before)


MAP = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "gamma", "words"),
    [
        (MAP, MAP[:1], 1, r"student and teacher differ: \(2, 3, 4, 4\).*against \(1, 3, 4, 4\).*choose"),
        (MAP[0], MAP[0], 1, r"student is \(3, 4, 4\) torch.float32, expected .*\(B, C, H, W\)"),
        (MAP, MAP.int(), 1, r"teacher is \(2, 3, 4, 4\) torch.int32, expected .*floating point"),
        (MAP[:0], MAP[:0], 1, "non-empty"),
        ([MAP], MAP, 1, "student is a list, expected one"),
        (MAP, MAP, -1, "gamma is -1, expected a finite number of at least 0"),
        (MAP, MAP.to("meta"), 1, "on cpu against .* on meta"),
    ],
)
def test_errors_name_the_remedy(student, teacher, gamma, words):
    for call in (frequency_attention_loss, frequency_attention):
        with pytest.raises(ValueError, match=words):
            call(student, teacher, gamma=gamma)


def test_weight_grows_with_the_energy_and_scales_the_gradient():
    """A pure wave has all its energy at its frequency; the gradient is the wave times the weight there."""
    x = torch.arange(8, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * (2 * x[:, None] + 3 * x) / 8).expand(1, 2, 8, 8).clone().requires_grad_()
    nothing = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    seen = frequency_attention(wave, nothing, gamma=4.0)
    expected = torch.zeros(1, 8, 8, dtype=torch.float64)
    expected[0, 2, 3] = expected[0, -2, -3] = 2 * 0.25
    torch.testing.assert_close(seen.energy, expected)
    (gradient,) = torch.autograd.grad(frequency_attention_loss(wave, nothing, gamma=4.0), wave)
    weight = torch.exp(torch.tensor(4 * 0.25, dtype=torch.float64))
    torch.testing.assert_close(gradient, 2 * weight * wave.detach() / 64)
