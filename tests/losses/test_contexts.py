"""What callers bring: inference mode, torch.compile, checkpoints, replicas, layouts, precisions, labels in a column."""

import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from addlib.losses import (
    ADDLoss,
    NonLocalLoss,
    attention_map,
    attention_transfer_loss,
    draw_pairs,
    frequency_attention,
    frequency_attention_loss,
    hint_loss,
    multi_view_attention_loss,
    random_directions,
    sliced_attention,
    sliced_wasserstein,
    soft_target_loss,
)

LABELS = torch.tensor([0, 1, 0, 1])
SHAPE = (4, 8, 4, 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def multi_view(student, teacher, **options):
    return multi_view_attention_loss(student, teacher, LABELS.to(student.device), generator=seeded(), **options)


def add(student, teacher):
    return ADDLoss((1,), (1,))([student], [teacher], LABELS.to(student.device), generator=seeded())


def non_local(student, teacher):
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(0)
        loss = NonLocalLoss([student.shape[1]]).to(student.device).requires_grad_(False)
        loss.blocks[0].gate.fill_(1)
    return loss([student], [teacher])


ADD_LOSSES = {
    "FFT": frequency_attention_loss,
    "Gram": lambda s, t: frequency_attention_loss(s[:, :, :3, :4], t[:, :, :3, :4]),
    "through the weight": lambda s, t: frequency_attention_loss(s, t, detach_weight=False),
    "multi-view": multi_view,
    "published": lambda s, t: multi_view(s, t, variant="published"),
    "ADD": add,
}
LOSSES = ADD_LOSSES | {
    "hint": hint_loss,
    "hint, published": lambda s, t: hint_loss(s, t, variant="published"),
    "attention transfer": attention_transfer_loss,
    "non-local": non_local,
    "soft targets": soft_target_loss,
    "Wasserstein": lambda s, t: (
        sliced_wasserstein(s, t.detach(), random_directions(2, generator=seeded())).sum().float()
    ),
}
each = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_of_add = pytest.mark.parametrize("loss", ADD_LOSSES.values(), ids=ADD_LOSSES)


@pytest.fixture
def pair(maps, device):
    torch.manual_seed(0)
    return maps(SHAPE, dtype=torch.float32, device=device)


def value_and_gradient(loss, student, teacher):
    torch.manual_seed(0)
    value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


@each
def test_inference_mode(loss, pair):
    """A validation loop logs the loss; a teacher that ran in inference mode teaches."""
    student, teacher = pair
    value, gradient = value_and_gradient(loss, student, teacher)
    with torch.inference_mode():
        torch.manual_seed(0)
        made = student + 0, teacher + 0
        assert float(loss(*made)) == float(value)
        assert float(loss(student, made[1])) == float(value)
    found = value_and_gradient(loss, student, made[1])
    assert float(found[0]) == float(value) and torch.equal(found[1], gradient)
    torch.manual_seed(0)
    assert float(loss(*made)) == float(value)


def test_maps_in_inference_mode(pair):
    directions = random_directions(2)
    for look in (
        attention_map,
        lambda x: sliced_attention(x, directions, 3),
        lambda x: frequency_attention(x, x).energy,
    ):
        with torch.inference_mode():
            made = pair[1] + 0
            assert torch.equal(look(made), look(pair[1]))
        assert torch.equal(look(made), look(pair[1]))
        assert not look(made).requires_grad


def test_compiled_step(maps):
    """The network is compiled, the losses stay Python: same value, same gradient of the network's weights."""
    student, teacher = (m.detach() for m in maps(SHAPE, dtype=torch.float32))
    net = torch.nn.Conv2d(8, 8, 1)
    loss = ADDLoss((1,), (1,))

    def step(bad, good):
        with torch.no_grad():
            target = net(good)
        made = net(bad)
        total = loss([made], [target], LABELS) + attention_transfer_loss(made, target) + hint_loss(made, target)
        return total + frequency_attention_loss(made, target) + multi_view_attention_loss(made, target, LABELS)

    found = []
    for run in (step, torch.compile(step, backend="aot_eager")):
        torch.manual_seed(0)
        value = run(student, teacher)
        found.append((value.detach(), *torch.autograd.grad(value, net.parameters())))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(second, first)


@each_of_add
def test_second_derivatives_stay_possible(loss, maps):
    student, teacher = maps(SHAPE)
    (gradient,) = torch.autograd.grad(2 * loss(student, teacher), student)
    (again,) = torch.autograd.grad(2 * loss(student, teacher), student, create_graph=True)
    torch.testing.assert_close(again, gradient, rtol=1e-9, atol=1e-13)
    assert torch.isfinite(torch.autograd.grad(again.square().sum(), student)[0]).all()


@pytest.mark.parametrize("given", [False, True], ids=["global generator", "draws given"])
def test_gradient_checkpoint(given, pair):
    """Computed twice, drawn once: torch sets back its global generator, and draws can be passed."""
    student, teacher = pair
    loss, labels = ADDLoss((1,), (1,)), LABELS.to(student.device)
    draws = loss.draw(labels, generator=seeded()) if given else None

    def step(x):
        return loss([x], [teacher], labels, draws=draws)

    expected = value_and_gradient(lambda s, t: step(s), student, teacher)
    found = value_and_gradient(lambda s, t: checkpoint(step, s, use_reentrant=False), student, teacher)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_replicas_in_threads(maps):
    """As DataParallel calls one module: at once, each with its own part of the batch."""
    loss, found = ADDLoss((1,), (1,)), {}
    parts = [maps(SHAPE, seed=i, dtype=torch.float32) for i in range(4)]

    def replica(i):
        student, teacher = parts[i]
        value = loss([student], [teacher], LABELS, generator=seeded(i))
        found[i] = value.detach(), torch.autograd.grad(value, student)[0]

    threads = [threading.Thread(target=replica, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(found)
    for i in range(4):
        replica(i)
        assert all(torch.equal(*both) for both in zip(together[i], found[i], strict=True))


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "strided": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "slices of a larger map": lambda x: torch.nn.functional.pad(x, (1, 2, 3, 4))[:, :, 3:-4, 1:-2],
    "expanded": lambda x: x[:1].expand(4, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@each
def test_memory_layouts(loss, layout, pair):
    student, teacher = (LAYOUTS[layout](m.detach()) for m in pair)
    expected = value_and_gradient(loss, student.contiguous().requires_grad_(), teacher.contiguous())
    found = value_and_gradient(loss, student.requires_grad_(), teacher)
    torch.testing.assert_close(found, expected)
    if layout == "channels last" and loss in ADD_LOSSES.values():
        assert found[1].stride() == student.stride() or loss is ADD_LOSSES["Gram"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each
def test_half_precision_and_autocast(loss, dtype, pair):
    """Computed in float32: the value is that of the widened maps, the gradient is rounded once."""
    student, teacher = (m.detach().to(dtype) for m in pair)
    student.requires_grad_()
    expected = value_and_gradient(loss, student.detach().float().requires_grad_(), teacher.float())
    with torch.autocast(student.device.type, dtype=torch.bfloat16):
        value, gradient = value_and_gradient(loss, student, teacher)
    assert value.dtype == torch.float32 and torch.equal(value, expected[0])
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, expected[1].to(dtype))


@each
def test_no_gradient_to_the_teacher(loss, maps):
    student, teacher = maps(SHAPE)
    teacher.requires_grad_()
    first, second = torch.autograd.grad(
        loss(student, teacher), (student, teacher), create_graph=True, allow_unused=True
    )
    assert first is not None and second is None
    if first.requires_grad:
        assert torch.autograd.grad(first.square().sum(), teacher, allow_unused=True)[0] is None
    with torch.no_grad():
        assert not loss(student, teacher).requires_grad


@each_of_add
def test_two_runs_are_identical_and_invalid_numbers_stay_visible(loss, pair):
    student, teacher = pair
    first, second = (value_and_gradient(loss, student, teacher) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    for value in (float("nan"), float("inf")):
        broken = student.detach().clone()
        broken[0, 1, 2, 3] = value
        assert loss(broken, teacher).isnan() or (value == float("inf") and loss is not multi_view)


@each_of_add
def test_mixed_precisions(loss, maps):
    student, teacher = maps(SHAPE)
    value, gradient = value_and_gradient(loss, student.detach().float().requires_grad_(), teacher)
    expected = value_and_gradient(loss, student, teacher)
    assert value.dtype == torch.float64 and gradient.dtype == torch.float32
    torch.testing.assert_close((value, gradient.double()), expected, rtol=1e-5, atol=1e-6)


def test_labels_in_a_column(maps):
    """(B, 1), as binary cross-entropy takes them, are labels; argmax(1) would make all of them 0."""
    student, teacher = maps(SHAPE)
    column = LABELS[:, None].float()
    for call in (
        lambda labels: multi_view_attention_loss(student, teacher, labels, generator=seeded()),
        lambda labels: ADDLoss((1,), (1,))([student], [teacher], labels, generator=seeded()),
        lambda labels: torch.stack(draw_pairs(labels, generator=seeded())),
    ):
        assert torch.equal(call(column), call(LABELS))
    with pytest.raises(ValueError, match=r"labels are \(4, 2\), expected a tensor \(4,\).*argmax"):
        multi_view_attention_loss(student, teacher, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"labels are \(4, 2\), expected a tensor \(B,\)"):
        draw_pairs(torch.zeros(4, 2))
