import numpy as np
import pytest
import torch

from addlib.losses import MultiViewAttentionLoss, draw_pairs, multi_view_attention_loss, random_directions

LABELS = torch.tensor([0, 1, 0, 1, 1, 2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def setting(maps, device):
    """Maps, labels, directions and pairs of a small batch; in one sample of the pairs each kind is missing."""
    student, teacher = maps((6, 8, 3, 4), device=device)
    same = torch.tensor([2, 3, 0, 4, 1, -1])
    other = torch.tensor([1, 0, -1, 5, 5, 3])
    return student, teacher, LABELS.to(device), random_directions(5, generator=seeded()), (same, other)


@pytest.mark.parametrize("coordinates", ["index", "unit"])
@pytest.mark.parametrize("bins", [None, 1, 6])
@pytest.mark.parametrize("margin", [0.0, 0.012, 0.3])
def test_value_matches_the_loops(coordinates, bins, margin, setting, oracle):
    student, teacher, labels, directions, (same, other) = setting
    vectors = [
        oracle.attention(features.detach().cpu().numpy(), directions.numpy(), bins or 4, coordinates)
        for features in (student, teacher)
    ]
    for pair in ((same, other), (torch.stack([same] * 5), torch.stack([other, other.roll(1), other, same, same]))):
        loss = multi_view_attention_loss(
            student, teacher, labels, directions=directions, bins=bins, pairs=pair, margin=margin,
            coordinates=coordinates,
        )  # fmt: skip
        expected = oracle.multi_view_loss(*vectors, *(index.numpy() for index in pair), 100.0, 50.0, margin)
        assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("margin", [0.012, 0.3])
def test_published_value_matches_the_loops(margin, setting, oracle):
    student, teacher, labels, directions, _ = setting
    same, other = draw_pairs(LABELS, shape=(5, 2), generator=seeded(1))
    vectors = [
        oracle.published_attention(features.detach().cpu().numpy(), directions.numpy(), 4)
        for features in (student, teacher)
    ]
    loss = multi_view_attention_loss(
        student, teacher, labels, directions=directions, pairs=(same, other), margin=margin, variant="published"
    )
    expected = oracle.published_multi_view_loss(*vectors, same.numpy(), other.numpy(), 100.0, 50.0, margin)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.parametrize("margin", [0.012, 0.3])
def test_gradients(variant, margin, maps, device):
    student, teacher = maps((3, 4, 2, 2), device=device)
    student = student.detach().add_(0.1).requires_grad_()
    labels = torch.tensor([0, 1, 1], device=device)

    def loss(x):
        return multi_view_attention_loss(
            x, teacher, labels, views=2, bins=3, margin=margin, generator=seeded(), variant=variant
        )

    assert torch.autograd.gradcheck(loss, student, fast_mode=device == "cuda")
    assert torch.autograd.gradgradcheck(loss, student, fast_mode=device == "cuda")


def test_float32_is_close_to_float64(maps, device):
    student, teacher = maps((8, 64, 8, 8), dtype=torch.float32, device=device)
    labels = torch.arange(8) % 2
    results = []
    for dtype in (torch.float32, torch.float64):
        x = student.detach().to(dtype).requires_grad_()
        loss = multi_view_attention_loss(x, teacher.to(dtype), labels.to(device), generator=seeded())
        assert loss.dtype == dtype
        results.append((loss.item(), torch.autograd.grad(loss, x)[0].double()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5 * float(results[1][1].abs().max()))


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.parametrize("coordinates", ["index", "unit"])
def test_scaling_a_map_changes_nothing(variant, coordinates, setting):
    student, teacher, labels, directions, _ = setting
    options = {"directions": directions, "coordinates": coordinates, "variant": variant}
    expected = multi_view_attention_loss(student, teacher, labels, generator=seeded(), **options)
    for scale in (-1.0, 1e-6, 1e4):
        for maps in ((scale * student, teacher), (student, scale * teacher)):
            loss = multi_view_attention_loss(*maps, labels, generator=seeded(), **options)
            torch.testing.assert_close(loss, expected)
    # Of a function that scaling does not change, the gradient is orthogonal to the map.
    (gradient,) = torch.autograd.grad(expected, student)
    assert (gradient * student).sum((1, 2, 3)).abs().max() < 1e-12


def test_permuting_the_batch_changes_nothing(setting):
    student, teacher, labels, directions, (same, other) = setting
    expected = multi_view_attention_loss(student, teacher, labels, directions=directions, pairs=(same, other))
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    place = torch.argsort(order)
    moved = tuple(torch.where(index[order] < 0, -1, place[index[order].clamp(min=0)]) for index in (same, other))
    there = order.to(student.device)
    loss = multi_view_attention_loss(student[there], teacher[there], labels[there], directions=directions, pairs=moved)
    torch.testing.assert_close(loss, expected)


def test_direction_sign_changes_nothing(setting):
    """Opposite directions see the same slices, in reverse; edges are no measure of it, so no value lies on one."""
    student, teacher, labels, directions, pairs = setting
    losses = [
        multi_view_attention_loss(student, teacher, labels, directions=sign * directions, pairs=pairs)
        for sign in (1, -1)
    ]
    torch.testing.assert_close(*losses)


def test_order_of_elements_matters_in_the_paper_and_not_in_the_published_code(maps):
    """In the published code a direction only moves the bin edges along the raster order of the elements.

    So two directions that project the grid onto equally spread numbers, in another order, give the same loss there.
    """
    student, teacher = maps((3, 6, 4, 4))
    one = torch.tensor([[0.6, 0.0, 0.8]])
    other = torch.tensor([[-0.6, 0.8, 0.0]])
    losses = {
        variant: [
            multi_view_attention_loss(student, teacher, None, eta=0, directions=d, variant=variant).item()
            for d in (one, other)
        ]
        for variant in ("paper", "published")
    }
    assert losses["published"][0] == pytest.approx(losses["published"][1], rel=1e-12)
    assert abs(losses["paper"][0] / losses["paper"][1] - 1) > 0.01


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 2], [0, 0, 1]])
def test_missing_partners_are_left_out(variant, labels, maps, oracle):
    student, teacher = maps((3, 6, 3, 3))
    directions = random_directions(4)
    loss = multi_view_attention_loss(
        student, teacher, torch.tensor(labels), directions=directions, generator=seeded(), margin=5.0, variant=variant
    )
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
    attend = oracle.attention if variant == "paper" else oracle.published_attention
    own, their = (attend(f.detach().numpy(), directions.numpy(), 3) for f in (student, teacher))
    apart = np.array(
        [[[oracle.distance(own[i, k], their[j, k]) for k in range(4)] for j in range(3)] for i in range(3)]
    )
    base = 100 * np.mean([apart[i, i].mean() for i in range(3)])
    has_same = sum(labels.count(label) > 1 for label in labels)
    has_other = sum(labels.count(label) < 3 for label in labels)
    ways = 1 if variant == "paper" else 2
    contrast = (loss.item() - base) / 50 * 3
    # With a margin beyond every distance each hinge is between margin - 2 and margin, each positive term at most 2.
    assert ways * has_other * 3 - 1e-9 <= contrast <= ways * (has_other * 5 + has_same * 2) + 1e-9
    if not has_other and not has_same:
        assert contrast == pytest.approx(0, abs=1e-9)


def test_generator_makes_the_draw_repeatable(setting):
    student, teacher, labels, _, _ = setting
    first, second, third = (
        multi_view_attention_loss(student, teacher, labels, generator=seeded(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    state = torch.get_rng_state()
    multi_view_attention_loss(student, teacher, labels, generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    # The directions come first, so that they do not depend on whether pairs are drawn.
    directions = random_directions(12, generator=seeded(3))
    first, second = (
        multi_view_attention_loss(student, teacher, labels, eta=0, **options)
        for options in ({"generator": seeded(3)}, {"directions": directions})
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (5,), (3, 2)])
def test_drawn_pairs(shape, device):
    labels = torch.tensor([0, 1, 0, 1, 1, 2, 0], device=device)
    seen = [{i: set() for i in range(7)} for _ in range(2)]
    for seed in range(60):
        for kind, index in enumerate(draw_pairs(labels, shape=shape, generator=seeded(seed))):
            assert index.shape == (*shape, 7) and index.dtype == torch.int64 and index.device == labels.device
            for row in index.reshape(-1, 7).tolist():
                for i, j in enumerate(row):
                    seen[kind][i].add(j)
    for i, label in enumerate(labels.tolist()):
        alike = {j for j, other in enumerate(labels.tolist()) if other == label and j != i}
        assert seen[0][i] == (alike or {-1})
        assert seen[1][i] == set(range(7)) - alike - {i}


def test_pairs_are_uniform():
    same, other = draw_pairs(torch.tensor([0, 0, 0, 0, 1, 1]), shape=(6000,), generator=seeded())
    counts = torch.bincount(same[:, 0], minlength=6)
    assert counts[[0, 4, 5]].sum() == 0
    assert (counts[1:4] - 2000).abs().max() < 150
    assert (torch.bincount(other[:, 0], minlength=6)[4:] - 3000).abs().max() < 180


def test_half_precision_gradient_saturates_but_the_scale_of_the_loss_overflows():
    student = torch.tensor([[[[6e-8, 0.0]], [[0.0, 6e-8]]]], dtype=torch.float16, requires_grad=True)
    teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]], dtype=torch.float16)
    loss = multi_view_attention_loss(student, teacher, None, bins=2, eta=0, directions=torch.tensor([[1.0, 0.0, 0.0]]))
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    assert gradient.abs().max() == torch.finfo(torch.float16).max
    assert torch.autograd.grad(loss * 2.0**16, student)[0].isinf().any()


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_module(variant, setting):
    student, teacher, labels, directions, _ = setting
    loss = MultiViewAttentionLoss(bins=5, gamma=3.0, eta=2.0, margin=0.5, coordinates="unit", variant=variant)
    options = {"bins": 5, "gamma": 3.0, "eta": 2.0, "margin": 0.5, "coordinates": "unit", "variant": variant}
    assert torch.equal(
        loss(student, teacher, labels, directions=directions, generator=seeded()),
        multi_view_attention_loss(student, teacher, labels, directions=directions, generator=seeded(), **options),
    )
    assert f"bins=5, gamma=3.0, eta=2.0, margin=0.5, coordinates='unit', variant='{variant}'" in repr(loss)


INDEX = torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"student": torch.zeros(2, 4, 3, 4)}, r"\(2, 4, 3, 4\) against \(2, 4, 3, 3\)"),
        ({"labels": torch.zeros(3)}, r"labels are \(3,\), expected a tensor \(2,\)"),
        ({"labels": torch.zeros(2, 2)}, r"\(2, 2\).*argmax"),
        ({"labels": [0, 1]}, "labels are list"),
        ({"labels": None}, "labels are None.*give labels, pairs or eta=0"),
        ({"variant": "code"}, "variant is 'code', expected one of 'paper', 'published'"),
        ({"coordinates": "raw"}, "coordinates is 'raw'"),
        ({"bins": 0}, "bins is 0"),
        ({"bins": 1, "variant": "published"}, "bins is 1, expected at least 2.*drops the last bin"),
        ({"views": 0}, "views is 0"),
        ({"gamma": -1}, "gamma is -1"),
        ({"eta": float("inf")}, "eta is inf"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"directions": torch.ones(2, 3)}, "lengths from 1.732"),
        ({"pairs": INDEX}, r"pairs are a Tensor, expected \(same, other\)"),
        ({"pairs": (INDEX, INDEX.float())}, "other is torch.float32, expected integer indices"),
        ({"pairs": (INDEX, torch.zeros(3, 2).long())}, r"other has shape \(3, 2\), expected \(2,\) or \(12, 2\)"),
        ({"pairs": (INDEX, INDEX), "variant": "published"}, r"same has shape \(2,\), expected \(12, 2, 2\)"),
        ({"pairs": (INDEX + 1, INDEX)}, "same holds 1 to 2, expected indices from 0 to 1"),
        ({"pairs": (INDEX - 2, INDEX)}, "same holds -2 to -1"),
    ],
)
def test_errors_name_the_remedy(change, words):
    arguments = {"student": torch.zeros(2, 4, 3, 3), "teacher": torch.zeros(2, 4, 3, 3), "labels": torch.tensor([0, 1])}
    arguments |= change
    with pytest.raises(ValueError, match=words):
        if "directions" not in change and "pairs" in change:
            arguments["directions"] = random_directions(12)
        multi_view_attention_loss(
            arguments.pop("student"), arguments.pop("teacher"), arguments.pop("labels"), **arguments
        )
