import pytest
import torch

from addlib.losses import FrequencyAttentionLoss, frequency_attention, frequency_attention_loss
from addlib.losses import frequency as module


def by_autograd(student, teacher, gamma):
    """The loss in plain differentiable operations: complex transforms of both maps, detached weight."""
    distance = (torch.fft.fft2(student, norm="forward") - torch.fft.fft2(teacher, norm="forward")).abs().square()
    weight = torch.exp(gamma * distance.mean(1, keepdim=True)).detach()
    return (weight * distance).sum((1, 2, 3)).mean()


@pytest.fixture(params=["gram", "fft"])
def path(request, monkeypatch):
    """Both ways to compute the loss, whatever the shape."""
    monkeypatch.setattr(module, "_use_gram", lambda student, teacher: request.param == "gram")
    return request.param


SHAPES = [
    (2, 3, 4, 4),
    (2, 5, 3, 4),
    (3, 2, 4, 3),
    (1, 1, 5, 5),
    (2, 4, 1, 6),
    (2, 4, 6, 1),
    (2, 3, 1, 1),
    (1, 2, 2, 2),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.0, 1.0, 7.5])
def test_value_weight_and_energy_match_the_loops(shape, gamma, maps, oracle, path):
    student, teacher = maps(shape)
    value, weight, energy = oracle.frequency_loss(student.detach().numpy(), teacher.numpy(), gamma)
    assert frequency_attention_loss(student, teacher, gamma=gamma).item() == pytest.approx(value, rel=1e-12)
    seen = frequency_attention(student, teacher, gamma=gamma)
    torch.testing.assert_close(seen.weight, torch.from_numpy(weight), rtol=1e-12, atol=0)
    torch.testing.assert_close(seen.energy, torch.from_numpy(energy), rtol=1e-10, atol=1e-14)
    assert (seen.weight * seen.energy).sum((1, 2)).mean().item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 16, 16), (2, 3, 15, 13), (2, 40, 8, 8)])
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_closed_form_gradient_matches_autograd(shape, gamma, maps, path, device):
    student, teacher = maps(shape, device=device)
    (gradient,) = torch.autograd.grad(frequency_attention_loss(student, teacher, gamma=gamma), student)
    (expected,) = torch.autograd.grad(by_autograd(student, teacher, gamma), student)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [(4, 64, 16, 16), (4, 128, 8, 8), (4, 256, 4, 4)])
def test_float32_is_close_to_float64(shape, maps, path, device):
    student, teacher = maps(shape, dtype=torch.float32, device=device)
    precise = student.detach().double().cpu().requires_grad_()
    expected = frequency_attention_loss(precise, teacher.double().cpu())
    (slope,) = torch.autograd.grad(expected, precise)
    value = frequency_attention_loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient.double().cpu(), slope, rtol=1e-4, atol=1e-6 * float(slope.abs().max()))


def test_second_derivative_takes_the_weight_as_constant(maps, path):
    student, teacher = maps((2, 3, 4, 4))
    direction = torch.randn_like(student)
    seconds = []
    for loss in (frequency_attention_loss(student, teacher, gamma=2.0), by_autograd(student, teacher, 2.0)):
        (gradient,) = torch.autograd.grad(3 * loss, student, create_graph=True)
        seconds.append(torch.autograd.grad((gradient * direction).sum(), student)[0])
    torch.testing.assert_close(seconds[0], seconds[1], rtol=1e-10, atol=1e-14)


def test_parseval(maps, path):
    student, teacher = maps((3, 4, 5, 6))
    expected = (student - teacher).square().sum((1, 2, 3)).mean() / 30
    torch.testing.assert_close(frequency_attention_loss(student, teacher, gamma=0), expected)


def test_weight_grows_with_the_energy_and_scales_the_gradient(maps):
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


def test_invariances(maps, path):
    student, teacher = maps((4, 6, 4, 5))
    loss = frequency_attention_loss(student, teacher)
    for change in (
        lambda t: t[torch.tensor([2, 0, 3, 1])],  # order of the batch
        lambda t: t[:, torch.randperm(6, generator=torch.Generator().manual_seed(0))],  # order of the channels
        lambda t: t.roll((1, 2), (2, 3)),  # circular shift of both maps
        lambda t: t.flip(3),
    ):
        torch.testing.assert_close(frequency_attention_loss(change(student), change(teacher)), loss)


def test_small_chunks_give_the_same(maps, monkeypatch):
    student, teacher = maps((7, 3, 4, 4))
    expected = torch.autograd.grad(frequency_attention_loss(student, teacher), student)[0]
    monkeypatch.setattr("addlib.losses._checks.CHUNK_ELEMENTS", {"cpu": 2 * 48, "cuda": 2 * 48})
    torch.testing.assert_close(torch.autograd.grad(frequency_attention_loss(student, teacher), student)[0], expected)


def test_exponent_is_clamped(maps, path):
    """Weights that float32 cannot hold: value and gradient stay finite, and the weight is exp(40)."""
    student, teacher = maps((2, 3, 4, 4), dtype=torch.float32, scale=1e3)
    loss = frequency_attention_loss(student, teacher, gamma=1e6)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert frequency_attention(student, teacher, gamma=1e6).weight.max().item() == pytest.approx(2.353853e17, rel=1e-6)


def test_largest_numbers(path):
    """Differences that overflow saturate instead."""
    largest = torch.finfo(torch.float32).max
    student = torch.full((1, 3, 4, 4), largest, requires_grad=True)
    loss = frequency_attention_loss(student, torch.full((1, 3, 4, 4), -largest), gamma=1)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert (gradient > 0).all()


def test_half_precision_gradient_saturates_but_the_scale_of_the_loss_overflows(path):
    """A gradient outside float16 is clamped; an overflow that the loss scale causes must reach GradScaler as inf."""
    student = torch.full((1, 1, 4, 4), 6e4, dtype=torch.float16, requires_grad=True)
    teacher = -student.detach()
    loss = frequency_attention_loss(student, teacher)
    assert torch.isfinite(loss)
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    assert (gradient == torch.finfo(torch.float16).max).all()
    (gradient,) = torch.autograd.grad(loss * 2.0**16, student)
    assert gradient.isinf().all()


def test_reduced_matmul_precision_changes_little(maps, device):
    """TF32 and bfloat16 products are for the network: with them allowed, the FFT is taken."""
    student, teacher = maps((2, 64, 4, 4), dtype=torch.float32, device=device)
    assert module._use_gram(student, teacher)
    expected = frequency_attention_loss(student.double(), teacher.double())
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert not module._use_gram(student, teacher)
        assert frequency_attention_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-6)
    finally:
        torch.set_float32_matmul_precision(before)


def test_module(maps):
    student, teacher = maps((2, 3, 4, 4))
    loss = FrequencyAttentionLoss(gamma=2.0)
    assert torch.equal(loss(student, teacher), frequency_attention_loss(student, teacher, gamma=2.0))
    assert repr(loss) == "FrequencyAttentionLoss(gamma=2, detach_weight=True)"
    assert not list(loss.parameters())


@pytest.mark.parametrize(
    ("student", "teacher", "gamma", "words"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 6, 4, 4), 1.0, r"\(2, 3, 4, 4\) against \(2, 6, 4, 4\); choose"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), 1.0, r"student has shape \(2, 3, 4\), expected \(B, C, H, W\)"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4), 1.0, "teacher has shape"),
        (torch.zeros(2, 3, 4, 4).int(), torch.zeros(2, 3, 4, 4), 1.0, r"torch.int32.*convert it with .float\(\)"),
        (torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4), 1.0, "no empty axis"),
        ([torch.zeros(2, 3, 4, 4)], torch.zeros(2, 3, 4, 4), 1.0, "student is a list.*one stage at a time"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), -1.0, "gamma is -1.0, expected"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), float("nan"), "gamma is nan"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, device="meta"), 1.0, "student is on cpu, teacher on meta"),
    ],
)
def test_errors_name_the_remedy(student, teacher, gamma, words):
    with pytest.raises(ValueError, match=words):
        frequency_attention_loss(student, teacher, gamma=gamma)
    if gamma == 1.0:
        with pytest.raises(ValueError, match=words):
            frequency_attention(student, teacher)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 16, 16), (2, 40, 8, 8)])
def test_gradient_through_the_weight_matches_autograd(shape, maps, path):
    student, teacher = maps(shape)
    distance = (torch.fft.fft2(student, norm="forward") - torch.fft.fft2(teacher, norm="forward")).abs().square()
    whole = (torch.exp(2.0 * distance.mean(1, keepdim=True)) * distance).sum((1, 2, 3)).mean()
    (expected,) = torch.autograd.grad(whole, student)
    loss = FrequencyAttentionLoss(2.0, detach_weight=False)(student, teacher)
    assert loss.item() == pytest.approx(frequency_attention_loss(student, teacher, gamma=2.0).item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)
    (constant,) = torch.autograd.grad(frequency_attention_loss(student, teacher, gamma=2.0), student)
    assert not torch.allclose(constant, gradient)


def test_second_derivative_through_the_weight(maps, path):
    student, teacher = maps((2, 3, 4, 4))

    def loss(x):
        return frequency_attention_loss(x, teacher, gamma=2.0, detach_weight=False)

    assert torch.autograd.gradcheck(loss, student)
    assert torch.autograd.gradgradcheck(loss, student)


def test_huge_maps_stay_finite_through_the_weight(path):
    for size in (1e2, 1e10, 1e30):
        student = torch.full((1, 2, 4, 4), size, requires_grad=True)
        loss = frequency_attention_loss(student, torch.zeros(1, 2, 4, 4), detach_weight=False)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()
