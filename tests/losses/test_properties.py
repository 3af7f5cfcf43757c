"""What holds for every loss, over generated shapes, precisions and magnitudes."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from addlib.losses import (
    ADDLoss,
    attention_transfer_loss,
    frequency_attention_loss,
    hint_loss,
    multi_view_attention_loss,
    random_directions,
    sliced_attention,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SMALL = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def seeded():
    return torch.Generator().manual_seed(0)


LOSSES = {
    "frequency": lambda s, t, labels: frequency_attention_loss(s, t),
    "frequency, large gamma": lambda s, t, labels: frequency_attention_loss(s, t, gamma=1e4),
    "multi-view": lambda s, t, labels: multi_view_attention_loss(s, t, labels, bins=3, views=3, generator=seeded()),
    "multi-view, unit": lambda s, t, labels: multi_view_attention_loss(
        s, t, labels, views=2, coordinates="unit", generator=seeded()
    ),
    "multi-view, published": lambda s, t, labels: multi_view_attention_loss(
        s, t, labels, bins=3, views=3, variant="published", generator=seeded()
    ),
    "add": lambda s, t, labels: ADDLoss([1], [1])([s], [t], labels, generator=seeded()),
}
BASELINES = {
    "attention transfer": lambda s, t, labels: attention_transfer_loss(s, t),
    "hint": lambda s, t, labels: hint_loss(s, t),
    "hint, published": lambda s, t, labels: hint_loss(s, t, variant="published"),
}


@st.composite
def batches(draw, dtypes=DTYPES):
    """Student, teacher and labels: every magnitude that the precision holds, zeros, single elements, any classes."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    dtype = draw(st.sampled_from(dtypes))
    info = torch.finfo(dtype)
    magnitudes = [
        0.0,
        info.smallest_normal * info.eps,
        info.smallest_normal,
        1e-12,
        1e-4,
        1.0,
        1e4,
        info.max / 2,
        info.max,
    ]
    maps = []
    for _ in range(2):
        values = torch.rand(
            shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))), dtype=torch.float64
        )
        values = values * 2 - 1 if draw(st.booleans()) else values
        if draw(st.booleans()):
            values = values.masked_fill(torch.rand(shape, generator=seeded()) < 0.8, 0)
        maps.append((values * draw(st.sampled_from(magnitudes))).to(dtype))
    labels = torch.tensor(draw(st.lists(st.integers(0, 2), min_size=shape[0], max_size=shape[0])))
    return maps[0].requires_grad_(), maps[1], labels


@pytest.mark.parametrize("name", LOSSES)
@SMALL
@given(data=st.data())
def test_finite_value_and_gradient_for_every_finite_input(name, data):
    # Weighted sums of float16 gradients may overflow; each term for itself may not.
    student, teacher, labels = data.draw(batches(DTYPES[1:] if name == "add" else DTYPES))
    before = student.detach().clone(), teacher.clone()
    loss = LOSSES[name](student, teacher, labels)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.shape == () and loss.dtype == (torch.float64 if student.dtype == torch.float64 else torch.float32)
    assert torch.isfinite(loss) and loss >= 0
    assert gradient.shape == student.shape and gradient.dtype == student.dtype
    assert torch.isfinite(gradient).all()
    # The arguments are read only.
    assert torch.equal(student, before[0]) and torch.equal(teacher, before[1])
    # And nothing is left to chance.
    again = LOSSES[name](student, teacher, labels)
    assert torch.equal(again, loss)
    assert torch.equal(torch.autograd.grad(again, student)[0], gradient)


@pytest.mark.parametrize("name", BASELINES)
@SMALL
@given(batch=batches(dtypes=[torch.float32, torch.float64]))
def test_baselines_are_finite(name, batch):
    student, teacher, labels = batch
    loss = BASELINES[name](student, teacher, labels)
    assert torch.isfinite(loss) and loss >= -1e-5
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()


@SMALL
@given(batch=batches(dtypes=[torch.float64]), views=st.integers(1, 4), bins=st.integers(1, 12))
def test_attention_keeps_the_mass(batch, views, bins):
    features = batch[0].detach()
    result = sliced_attention(features, random_directions(views, generator=seeded()), bins)
    assert (result >= 0).all()
    total = result.sum(2)
    peak = features.abs().amax((1, 2, 3))
    expected = (peak >= 1e-12).double()[:, None].expand_as(total)
    fading = (peak > 0) & (peak < 1e-12)
    torch.testing.assert_close(total[~fading], expected[~fading])
    assert (total[fading] <= 1 + 1e-12).all()
