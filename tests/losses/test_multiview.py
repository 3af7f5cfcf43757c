import pytest
import torch

from addlib.losses import draw_pairs, multi_view_attention_loss, random_directions


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1, 2], [1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5]], ids=str)
@pytest.mark.parametrize("margin", [0.0, 0.012, 0.3])
@pytest.mark.parametrize(("variant", "pairs_shape"), [("paper", ()), ("paper", (5,)), ("published", (5, 2))])
def test_value_matches_the_loops(variant, pairs_shape, margin, labels, maps, oracle, device):
    """Also where no image is a partner, in one view or in all."""
    student, teacher = maps((6, 8, 3, 4), device=device)
    directions, pairs = random_directions(5), draw_pairs(torch.tensor(labels), shape=pairs_shape)
    for index in pairs:
        index.view(-1, 6)[0, :2] = -1
    for coordinates, bins in (("index", None), ("unit", 6)):
        attend = oracle.attention if variant == "paper" else oracle.published_attention
        arrays = [x.detach().cpu().numpy() for x in (student, teacher)]
        vectors = [attend(array, directions.numpy(), bins or 4, coordinates) for array in arrays]
        options = {"bins": bins, "margin": margin, "coordinates": coordinates, "variant": variant}
        loss = multi_view_attention_loss(student, teacher, None, directions=directions, pairs=pairs, **options)
        compute = oracle.multi_view_loss if variant == "paper" else oracle.published_multi_view_loss
        expected = compute(*vectors, *(index.numpy() for index in pairs), 100.0, 50.0, margin)
        assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("shape", [(), (3, 2)])
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


def test_half_precision_gradient_saturates_but_the_scale_of_the_loss_overflows():
    student = torch.tensor([[[[6e-8, 0.0]], [[0.0, 6e-8]]]], dtype=torch.float16, requires_grad=True)
    teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]], dtype=torch.float16)
    loss = multi_view_attention_loss(student, teacher, None, bins=2, eta=0, directions=torch.tensor([[1.0, 0.0, 0.0]]))
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    assert gradient.abs().max() == torch.finfo(torch.float16).max
    assert torch.autograd.grad(loss * 2.0**16, student)[0].isinf().any()


INDEX = torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.zeros(3)}, r"labels are \(3,\).*, expected a tensor \(2,\)"),
        ({"labels": torch.tensor([0.1, 0.9])}, r"labels are \[0.1.*, expected whole numbers"),
        ({"labels": torch.tensor([0.0, float("nan")])}, "expected whole numbers"),
        ({"labels": torch.zeros(0)}, r"labels are \(0,\)"),
        ({"labels": None}, "labels are a NoneType.*give labels, pairs or eta=0"),
        ({"variant": "code"}, "variant is 'code', expected one of 'paper', 'published'"),
        ({"bins": 0}, "bins is 0"),
        ({"bins": 1, "variant": "published"}, "bins is 1, expected at least 2.*drops the last bin"),
        ({"views": 0}, "views is 0, expected a whole number"), ({"views": 2.0}, "views is 2.0"), ({"bins": 2.5}, "bins is 2.5"),
        ({"pairs": (INDEX, INDEX.float())}, r"other is \(2,\) torch.float32, expected integers"),
        ({"pairs": (INDEX, torch.zeros(3, 2).long())}, r"other is \(3, 2\).*expected integers \[\(2,\), \(12, 2\)\]"),
        ({"pairs": (INDEX + 1, INDEX)}, "same is .*from -1 to 1"),
    ],
)
def test_errors_name_the_remedy(change, words):
    arguments = {"student": torch.zeros(2, 4, 3, 3), "teacher": torch.zeros(2, 4, 3, 3), "labels": INDEX} | change
    with pytest.raises(ValueError, match=words):
        multi_view_attention_loss(**arguments)


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
