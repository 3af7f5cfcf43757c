"""What callers bring, to every loss: inference mode, torch.compile, checkpoints, layouts, precisions, extreme numbers."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from addlib import losses

SHAPE = (4, 8, 4, 5)
LABELS = torch.tensor([0, 1, 0, 1])
DIRECTIONS = losses.random_directions(2, generator=torch.Generator().manual_seed(0))


def seeded():
    return torch.Generator().manual_seed(0)


def multi_view(student, teacher, **options):
    labels = torch.arange(len(student), device=student.device) % 2
    return losses.multi_view_attention_loss(student, teacher, labels, bins=3, generator=seeded(), **options)


def non_local(student, teacher):
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(0)
        loss = losses.NonLocalLoss([student.shape[1]]).to(student.device).requires_grad_(False)
        loss.blocks[0].gate.fill_(1)
    return loss([student], [teacher])


LOSSES = {
    "FFT": losses.frequency_attention_loss,
    "Gram": lambda s, t: losses.frequency_attention_loss(s[:, :, :3, :4], t[:, :, :3, :4]),
    "large gamma": lambda s, t: losses.frequency_attention_loss(s, t, gamma=1e4),
    "through the weight": lambda s, t: losses.frequency_attention_loss(s, t, detach_weight=False),
    "multi-view": multi_view,
    "published": lambda s, t: multi_view(s, t, variant="published", coordinates="unit"),
    "ADD": lambda s, t: losses.ADDLoss((1,), (1,))([s], [t], torch.arange(len(s)) % 2, generator=seeded()),
    "hint": losses.hint_loss,
    "hint, published": lambda s, t: losses.hint_loss(s, t, variant="published"),
    "attention transfer": losses.attention_transfer_loss,
    "soft targets": lambda s, t: losses.soft_target_loss(s.flatten(1), t.flatten(1)),
    "non-local": non_local,
    "Wasserstein": lambda s, t: losses.sliced_wasserstein(s, t.detach(), DIRECTIONS).sum().float(),
    "attention map": lambda s, t: losses.attention_map(s).sum(),
    "attention vectors": lambda s, t: losses.sliced_attention(s, DIRECTIONS, 3).square().sum(),
}
ADD_LOSSES = list(LOSSES)[:7]


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


@pytest.fixture
def pair(maps, device):
    return maps(SHAPE, dtype=torch.float32, device=device)


def value_and_gradient(loss, student, teacher):
    value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


def test_inference_mode(loss, pair):
    """A validation loop logs the loss; a teacher that ran in inference mode teaches."""
    student, teacher = pair
    value, gradient = value_and_gradient(loss, student, teacher)
    with torch.inference_mode():
        made = student + 0, teacher + 0
        logged = [float(loss(*made)), float(loss(student, made[1]))]
    assert [*logged, float(loss(*made))] == pytest.approx([float(value)] * 3, rel=1e-6)
    found = value_and_gradient(loss, student, made[1])
    assert torch.equal(found[0], value) and torch.equal(found[1], gradient)


def test_compiled_step(maps):
    """The network is compiled, the losses stay Python: same value, same gradient of the network's weights."""
    student, teacher = (m.detach() for m in maps(SHAPE, dtype=torch.float32))
    net, loss = torch.nn.Conv2d(8, 8, 1), losses.ADDLoss((1,), (1,))

    def step(bad, good):
        made, target = net(bad), net(good).detach()
        named = (losses.attention_transfer_loss, losses.hint_loss, losses.frequency_attention_loss, multi_view)
        return loss([made], [target], LABELS) + sum(each(made, target) for each in named)

    found = []
    for run in (step, torch.compile(step, backend="aot_eager")):
        torch.manual_seed(0)
        value = run(student, teacher)
        found.append((value.detach(), *torch.autograd.grad(value, net.parameters())))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("given", [False, True])
def test_gradient_checkpoint(given, pair):
    """Computed twice, drawn once: torch sets back its global generator, and draws can be passed."""
    student, teacher = pair
    loss, labels = losses.ADDLoss((1,), (1,)), LABELS.to(student.device)
    draws = loss.draw(labels, generator=seeded()) if given else None
    found = []
    for run in (lambda step, x: step(x), lambda step, x: checkpoint(step, x, use_reentrant=False)):
        torch.manual_seed(0)
        value = run(lambda x: loss([x], [teacher], labels, draws=draws), student)
        found.append(torch.stack([value.expand(SHAPE), torch.autograd.grad(value, student)[0]]))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("large gamma", "non-local", "Wasserstein")])
def test_first_and_second_derivatives(name, maps, device):
    """The weight of frequencies is no constant for numerical derivatives, unless gamma is 0."""
    student, teacher = maps((3, 3, 3, 4), device=device)
    student = student.detach().add_(0.1).requires_grad_()
    steady = losses.ADDLoss([2.0], [1.0], gamma_fr=0.0, margin=0.3)
    drawn = steady.draw(LABELS[:3], generator=seeded(), device=device)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        if name in ("FFT", "Gram", "ADD"):
            assert check(lambda x: steady([x], [teacher], None, draws=drawn), student, fast_mode=True)
        else:
            assert check(lambda x: LOSSES[name](x, teacher), student, fast_mode=True)
    for x in (student, (1e-13 * student).detach().requires_grad_()):  # the second of fading mass
        value = 2 * LOSSES[name](x, teacher)
        again, gradient = (torch.autograd.grad(value, x, create_graph=c)[0] for c in (True, False))
        torch.testing.assert_close(again, gradient, rtol=1e-9, atol=1e-13)


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "slices of a larger map": lambda x: torch.nn.functional.pad(x, (1, 2, 3, 4))[:, :, 3:-4, 1:-2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(loss, layout, pair):
    student, teacher = (LAYOUTS[layout](m.detach()) for m in pair)
    expected = value_and_gradient(loss, student.contiguous().requires_grad_(), teacher.contiguous())
    torch.testing.assert_close(value_and_gradient(loss, student.requires_grad_(), teacher), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(loss, dtype, pair):
    """Computed in float32: the value is that of the widened maps, the gradient is rounded once."""
    student, teacher = (m.detach().to(dtype) for m in pair)
    expected = value_and_gradient(loss, student.float().requires_grad_(), teacher.float())
    with torch.autocast(student.device.type, dtype=torch.bfloat16):
        value, gradient = value_and_gradient(loss, student.requires_grad_(), teacher)
    assert value.dtype == torch.float32 and torch.equal(value, expected[0])
    limit = torch.finfo(dtype).max
    torch.testing.assert_close(gradient, expected[1].clamp(-limit, limit).to(dtype))


def test_no_gradient_to_the_teacher(loss, maps):
    student, teacher = maps(SHAPE)
    inputs = student, teacher.requires_grad_()
    first, second = torch.autograd.grad(loss(*inputs), inputs, create_graph=True, allow_unused=True)
    assert first is not None and second is None
    if first.requires_grad:
        assert torch.autograd.grad(first.square().sum(), teacher, allow_unused=True)[0] is None


def test_labels_in_a_column(maps):
    """(B, 1), as binary cross-entropy takes them, are labels; argmax(1) would make all of them 0."""
    student, teacher = maps(SHAPE)
    for call in (
        lambda labels: losses.multi_view_attention_loss(student, teacher, labels, generator=seeded()),
        lambda labels: losses.ADDLoss((1,), (1,))([student], [teacher], labels, generator=seeded()),
        lambda labels: torch.stack(losses.draw_pairs(labels, generator=seeded())),
    ):
        assert torch.equal(call(LABELS[:, None].float()), call(LABELS))


@st.composite
def extremes(draw, dtypes):
    """A pair of maps of any magnitude that the precision holds, with zeros, with single elements."""
    shape = [draw(st.integers(1, most)) for most in (5, 9, 6, 6)]
    info = torch.finfo(dtype := draw(st.sampled_from(dtypes)))
    magnitudes = [0, info.smallest_normal * info.eps, info.smallest_normal, 1e-12, 1e-4, 1, 1e4, info.max / 2, info.max]
    maps = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        values = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
        values *= torch.rand(shape, generator=generator) > draw(st.sampled_from([0, 0.8]))
        maps.append((values * draw(st.sampled_from(magnitudes))).to(dtype))
    return maps[0].requires_grad_(), maps[1]


@pytest.mark.parametrize("name", [*ADD_LOSSES, "hint", "hint, published", "attention transfer"])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_finite_and_the_same_bits_for_every_finite_input(name, data):
    """But weighted sums of float16 gradients may overflow, as may those of the baselines."""
    narrow = [torch.float16, torch.bfloat16] if name in ADD_LOSSES else []
    student, teacher = data.draw(extremes([torch.float32, torch.float64, *(narrow[1:] if name == "ADD" else narrow)]))
    before = student.detach().clone(), teacher.clone()
    value, gradient = value_and_gradient(LOSSES[name], student, teacher)
    assert value.dtype == (torch.float64 if student.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == student.dtype and gradient.isfinite().all() and value.isfinite() and value >= -1e-5
    assert torch.equal(student, before[0]) and torch.equal(teacher, before[1])
    again = value_and_gradient(LOSSES[name], student, teacher)
    assert torch.equal(again[0], value) and torch.equal(again[1], gradient)


@pytest.mark.parametrize("name", ADD_LOSSES)
def test_invalid_numbers_stay_visible(name, pair):
    broken = pair[0].detach().clone()
    broken[0, 1, 2, 3] = float("nan")
    assert LOSSES[name](broken, pair[1]).isnan()
