import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from addlib import losses

LABELS = torch.tensor([0, 1, 1, 0])


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def stages(maps, device):
    pairs = [maps(shape, device=device) for shape in ((4, 4, 8, 8), (4, 6, 4, 4), (4, 8, 2, 2))]
    return [list(side) for side in zip(*pairs, strict=True)]


def test_total_is_the_weighted_sum(stages, device):
    student, teacher = stages
    labels, options = LABELS.to(device), {"views": 4, "margin": 0.2, "coordinates": "unit"}
    loss = losses.ADDLoss((0.5, 0, 2), (0, 3, 1), alpha=0.7, beta=5, gamma_fr=0.3, **options)
    terms, generator = loss.terms(student, teacher, labels, generator=seeded()), seeded()
    frequency = [losses.frequency_attention_loss(s, t, gamma=0.3) for s, t in zip(student, teacher, strict=True)]
    options["generator"] = generator
    multi_view = [losses.multi_view_attention_loss(student[i], teacher[i], labels, **options) for i in (1, 2)]
    torch.testing.assert_close(terms.frequency, 0.5 * frequency[0] + 2 * frequency[2])
    torch.testing.assert_close(terms.multi_view, 3 * multi_view[0] + multi_view[1])
    torch.testing.assert_close(terms.total, 0.7 * terms.frequency + 5 * terms.multi_view)
    assert torch.equal(loss(student, teacher, labels, generator=seeded()), terms.total)
    missing = torch.full_like(frequency[0], float("nan"))
    found = torch.stack([terms.frequency_stages, terms.multi_view_stages])
    expected = torch.stack([frequency[0], missing, frequency[2], missing, *multi_view]).view(2, 3)
    torch.testing.assert_close(found, expected, equal_nan=True, check_dtype=False)
    assert not found.requires_grad


def test_zero_weights_compute_nothing_and_alpha_can_be_switched(stages, monkeypatch, device):
    student, teacher = stages
    loss = losses.ADDLoss((1, 1, 1), (1, 1, 1), alpha=0)
    first = loss.terms(student, teacher, LABELS.to(device), generator=seeded())
    assert first.frequency.item() == 0 and first.frequency_stages.isnan().all()
    loss.alpha = 1.0
    second = loss.terms(student, teacher, LABELS.to(device), generator=seeded())
    torch.testing.assert_close(second.total - second.frequency, first.total)
    for name in ("FrequencyAttentionLoss.forward", "MultiViewAttentionLoss.forward"):
        monkeypatch.setattr(f"addlib.losses.add.{name}", lambda *_, **__: pytest.fail("computed"))
    assert losses.ADDLoss((1, 1, 1), (1, 1, 1), alpha=0, beta=0)(student, teacher, None).item() == 0
    assert losses.ADDLoss((0, 0, 0), (0, 0, 0))(student, teacher, None).item() == 0


@pytest.mark.parametrize("options", [{}, {"variant": "published"}, {"eta": 0}])
def test_draws_are_those_of_the_stages_one_by_one(options, stages, device):
    """Directions, then pairs, stage by stage, wherever they are drawn: the same stream of random numbers."""
    labels, generator, check = LABELS.to(device), seeded(), seeded()
    loss = losses.ADDLoss((0, 0, 0), (1, 0, 2), views=3, **options)
    draws = loss.draw(labels, generator=generator)
    assert draws[1] is None
    shape = (3, 2) if options.get("variant") else ()
    for directions, pairs in (draws[0], draws[2]):
        assert torch.equal(directions.cpu(), losses.random_directions(3, generator=check))
        expected = () if "eta" in options else losses.draw_pairs(labels, shape=shape, generator=check)
        for found, index in zip(pairs or (), expected, strict=True):
            assert torch.equal(found, index) and found.device == labels.device
    assert torch.equal(generator.get_state(), check.get_state())
    assert torch.equal(loss(*stages, None, draws=draws), loss(*stages, labels, generator=seeded()))


def test_draws_of_a_step_are_sent_in_one_copy():
    """To another device go one tensor of everything that was drawn, and no number by itself."""

    class Copies(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            sources = {leaf.device.type for leaf in args if isinstance(leaf, torch.Tensor)}
            Copies.found += isinstance(made, torch.Tensor) and made.device.type == "meta" and "cpu" in sources
            return made

    with Copies():
        draws = losses.ADDLoss((0, 0, 0), (1, 1, 2)).draw(torch.zeros(8, device="meta"))
    assert all(tensor.device.type == "meta" for directions, pairs in draws for tensor in (directions, *pairs))
    assert Copies.found == 1


def test_errors_name_the_remedy(stages):
    student, teacher = stages
    loss = losses.ADDLoss((1, 1, 1), (1, 1, 1))
    for call, words in (
        (lambda: losses.ADDLoss((1, 1), (1,)), r"weights \(1, 1\) and \(1,\), expected two lists, one of each for every stage"),
        (lambda: losses.ADDLoss("12", (1, 1)), r"weights 12 and \(1, 1\), expected two lists"),
        (lambda: losses.ADDLoss((1, 1), (1, 1), alpha="1e-3"), "alpha is '1e-3', expected a finite number"),
        (lambda: loss(student[0], teacher, LABELS), r"student is \(.*float\d\d, expected a list of maps"),
        (lambda: losses.ADDLoss((1,), (1,), variant="code"), "variant is 'code'"),
        (lambda: losses.ADDLoss((1,), (1,), views=0), "views is 0, expected a whole number"),
        (lambda: losses.ADDLoss((1,), (1,), detach_weight="false"), "detach_weight is 'false', expected one of True, False"),
        (lambda: loss(student, teacher, LABELS, generator=3), "generator is a int, expected a torch.Generator"),
        *((lambda other=other: loss(student, teacher, LABELS, draws=other.draw(LABELS)), "draws are of a loss with other settings")
          for other in (losses.ADDLoss((1,), (1,)), losses.ADDLoss((1,) * 3, (1, 0, 1)), losses.ADDLoss((1,) * 3, (1,) * 3, eta=0))),
        (lambda: loss(student[:2], teacher, LABELS), "2 student and 3 teacher stages, expected 3 of each; .*weight 0"),
        (lambda: loss(student, [teacher[0], teacher[2], teacher[2]], LABELS), r"stage 1 \(counted from 0.*differ"),
        (lambda: loss(student, teacher, LABELS[:3]), r"stage 0.*labels are \(3,\).*, expected a tensor \(4,\)"),
        (lambda: loss(student, teacher, None), "labels are a NoneType"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
