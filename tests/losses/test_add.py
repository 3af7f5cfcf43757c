import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from addlib.losses import (
    PUBLISHED_STAGE_WEIGHTS_FR,
    PUBLISHED_STAGE_WEIGHTS_MV,
    ADDLoss,
    draw_pairs,
    frequency_attention_loss,
    multi_view_attention_loss,
    random_directions,
)

SHAPES = [(4, 4, 8, 8), (4, 6, 4, 4), (4, 8, 2, 2)]
LABELS = torch.tensor([0, 1, 1, 0])


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def stages(maps, device):
    pairs = [maps(shape, seed=i, device=device) for i, shape in enumerate(SHAPES)]
    return [list(side) for side in zip(*pairs, strict=True)]


def test_total_is_the_weighted_sum(stages, device):
    student, teacher = stages
    labels = LABELS.to(device)
    loss = ADDLoss((0.5, 0, 2), (0, 3, 1), alpha=0.7, beta=5, gamma_fr=0.3, views=4, margin=0.2, coordinates="unit")
    terms = loss.terms(student, teacher, labels, generator=seeded())
    generator = seeded()
    frequency = [frequency_attention_loss(s, t, gamma=0.3) for s, t in zip(student, teacher, strict=True)]
    multi_view = [
        multi_view_attention_loss(
            student[i], teacher[i], labels, views=4, margin=0.2, coordinates="unit", generator=generator
        )
        for i in (1, 2)
    ]
    torch.testing.assert_close(terms.frequency, 0.5 * frequency[0] + 2 * frequency[2])
    torch.testing.assert_close(terms.multi_view, 3 * multi_view[0] + multi_view[1])
    torch.testing.assert_close(terms.total, 0.7 * terms.frequency + 5 * terms.multi_view)
    assert torch.equal(loss(student, teacher, labels, generator=seeded()), terms.total)
    nan = torch.tensor(float("nan"), dtype=torch.float64, device=device)
    expected = torch.stack([frequency[0], nan, frequency[2]]).detach()
    torch.testing.assert_close(terms.frequency_stages, expected, equal_nan=True, check_dtype=False)
    expected = torch.stack([nan, *multi_view]).detach()
    torch.testing.assert_close(terms.multi_view_stages, expected, equal_nan=True, check_dtype=False)
    assert not terms.frequency_stages.requires_grad


def test_gradients_of_the_stages(stages, device):
    student, teacher = stages
    for tensor in teacher:
        tensor.requires_grad_()
    loss = ADDLoss((1, 0, 0), (0, 0, 1))(student, teacher, LABELS.to(device), generator=seeded())
    gradients = torch.autograd.grad(loss, student + teacher, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [True, False, True, False, False, False]


def test_gradcheck(maps):
    student, teacher = maps((3, 4, 2, 3))
    student = student.detach().add_(0.1).requires_grad_()
    loss = ADDLoss([2.0], [1.0], gamma_fr=0.0, views=3, margin=0.3)
    labels = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda x: loss([x], [teacher], labels, generator=seeded()), student)
    assert torch.autograd.gradgradcheck(lambda x: loss([x], [teacher], labels, generator=seeded()), student)


def test_zero_weights_compute_nothing(stages, monkeypatch):
    student, teacher = stages
    for name in ("FrequencyAttentionLoss.forward", "MultiViewAttentionLoss.forward"):
        monkeypatch.setattr(f"addlib.losses.add.{name}", lambda *_, **__: pytest.fail("computed"))
    loss = ADDLoss((1, 1, 1), (1, 1, 1), alpha=0, beta=0)(student, teacher, LABELS)
    assert loss.item() == 0
    loss = ADDLoss((0, 0, 0), (0, 0, 0))(student, teacher, LABELS)
    assert loss.item() == 0


def test_alpha_can_be_switched_while_training(stages, device):
    student, teacher = stages
    loss = ADDLoss((1, 1, 1), (1, 1, 1), alpha=0)
    first = loss.terms(student, teacher, LABELS.to(device), generator=seeded())
    assert first.frequency.item() == 0 and first.frequency_stages.isnan().all()
    loss.alpha = 1.0
    second = loss.terms(student, teacher, LABELS.to(device), generator=seeded())
    torch.testing.assert_close(second.total - second.frequency, first.total)


def test_published_weights_are_for_four_stages_and_make_a_loss():
    loss = ADDLoss(PUBLISHED_STAGE_WEIGHTS_FR, PUBLISHED_STAGE_WEIGHTS_MV)
    assert (loss.alpha, loss.beta) == (1, 16)
    maps = [torch.rand(2, c, s, s) for c, s in ((8, 8), (16, 4), (32, 2), (64, 1))]
    assert torch.isfinite(loss(maps, [m.flip(0) for m in maps], torch.tensor([0, 1])))
    assert not list(loss.parameters())
    assert "alpha=1, beta=16" in repr(loss)


@pytest.mark.parametrize("options", [{}, {"variant": "published"}, {"eta": 0}])
def test_draws_are_those_of_the_stages_one_by_one(options, stages, device):
    """Directions, then pairs, stage by stage, wherever they are drawn: the same stream of random numbers."""
    student, teacher = stages
    labels, generator, check = LABELS.to(device), seeded(), seeded()
    loss = ADDLoss((0, 0, 0), (1, 0, 2), views=3, **options)
    draws = loss.draw(labels, generator=generator)
    assert draws[1] is None
    shape = (3, 2) if options.get("variant") else ()
    for directions, pairs in (draws[0], draws[2]):
        assert torch.equal(directions.cpu(), random_directions(3, generator=check))
        if "eta" in options:
            assert pairs is None
        else:
            for found, expected in zip(pairs, draw_pairs(labels, shape=shape, generator=check), strict=True):
                assert torch.equal(found, expected) and found.device == labels.device
    assert torch.equal(generator.get_state(), check.get_state())
    expected = loss(student, teacher, labels, generator=seeded())
    assert torch.equal(loss(student, teacher, None, draws=draws), expected)


def test_draws_of_a_step_are_sent_in_one_copy():
    """To another device go one tensor of everything that was drawn, and no number by itself."""

    class Copies(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sources = {leaf.device.type for leaf in args if isinstance(leaf, torch.Tensor)}
            if isinstance(result, torch.Tensor) and result.device.type == "meta" and "cpu" in sources:
                Copies.found += 1
            return result

    labels = torch.zeros(8, device="meta")
    with Copies():
        draws = ADDLoss((0, 0, 0), (1, 1, 2)).draw(labels)
    assert all(tensor.device.type == "meta" for directions, pairs in draws for tensor in (directions, *pairs))
    assert Copies.found == 1


def test_labels_must_fit_the_maps(stages):
    with pytest.raises(ValueError, match=r"stage 0.*labels are \(3,\), expected a tensor \(4,\)"):
        ADDLoss((1, 1, 1), (1, 1, 1))(*stages, LABELS[:3])


def test_a_tuple_of_named_stages_is_accepted(maps):
    from typing import NamedTuple

    class Stages(NamedTuple):
        early: torch.Tensor
        late: torch.Tensor

    student = Stages(maps((2, 4, 4, 4))[0], maps((2, 4, 2, 2))[0])
    teacher = Stages(maps((2, 4, 4, 4))[1], maps((2, 4, 2, 2))[1])
    ADDLoss((1, 1), (1, 1))(student, teacher, torch.tensor([0, 1])).backward()
    assert all(stage.grad is not None for stage in student)


def test_errors_name_the_remedy(stages):
    student, teacher = stages
    with pytest.raises(ValueError, match="2 stage weights for frequency and 1 for multi-view.*the weight 0"):
        ADDLoss((1, 1), (1,))
    with pytest.raises(ValueError, match="expected the same number, at least 1"):
        ADDLoss((), ())
    with pytest.raises(ValueError, match="a stage weight is -1"):
        ADDLoss((1, -1), (1, 1))
    with pytest.raises(ValueError, match="beta is -2"):
        ADDLoss((1,), (1,), beta=-2)
    with pytest.raises(ValueError, match="variant is 'code'"):
        ADDLoss((1,), (1,), variant="code")
    loss = ADDLoss((1, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match="2 student and 3 teacher stages, expected 3 of each"):
        loss(student[:2], teacher, LABELS)
    with pytest.raises(ValueError, match=r"stage 1 \(counted from 0, shallow to deep\): student and teacher differ"):
        loss(student, [teacher[0], teacher[2], teacher[2]], LABELS)
