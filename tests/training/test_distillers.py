import functools
import inspect

import pytest
import torch

from addlib.detectors import Detection, register_detector
from addlib.losses import ADDLoss, frequency_attention_loss, soft_target_loss
from addlib.training import DISTILLERS, Distiller, Recipe, create_distiller, distiller_defaults, register_distiller

LABELS = torch.tensor([0, 1, 0, 1, 0, 1])
TERMS = {
    "fitnet": ["hint"], "at": ["attention"], "nl": ["non_local"], "kd": ["soft_target"], "fr": ["frequency"],
    "mv": ["multi_view"], "add": ["frequency", "multi_view"],
}  # fmt: skip


def detection(seed, batch=6, stages=((4, 8), (8, 4), (8, 2), (16, 2)), width=16):
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(batch, c, s, s, generator=generator, requires_grad=True) for c, s in stages)
    embedding = torch.randn(batch, width, generator=generator, requires_grad=True)
    return Detection(maps, embedding, torch.randn(batch, 2, generator=generator, requires_grad=True))


@pytest.mark.parametrize("name", TERMS)
def test_terms_reach_the_student_alone(name):
    student, teacher = detection(0), detection(1)
    terms = create_distiller(name, student, teacher)(student, teacher, LABELS, torch.Generator().manual_seed(0))
    assert list(terms) == TERMS[name]
    assert all(term.ndim == 0 and torch.isfinite(term) and term > 0 for term in terms.values())
    sum(terms.values()).backward()
    sides = [[*side.stages, side.embedding, side.logits] for side in (student, teacher)]
    assert any(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in sides[0])
    assert all(tensor.grad is None for tensor in sides[1])


def test_a_baseline_has_a_weight_and_the_settings_of_its_loss():
    student, teacher = detection(0), detection(1)
    term = create_distiller("kd", student, teacher, weight=0.5, temperature=3.0)(student, teacher, LABELS)
    expected = soft_target_loss(student.logits, teacher.logits, temperature=3.0).item() / 2
    assert term["soft_target"].item() == pytest.approx(expected, rel=1e-6)


def test_add_is_the_loss_of_the_library_and_its_frequency_term_begins_when_the_recipe_says():
    student, teacher = detection(0), detection(1)
    distiller = create_distiller("add", student, teacher, alpha=0.5, beta=2.0, coordinates="unit")
    loss = ADDLoss((0.0, 1.0, 2.0, 0.25), (0.0, 0.5, 2.5, 2.0), 0.5, 2.0, coordinates="unit")
    drawn = {"generator": torch.Generator().manual_seed(5)}
    wanted = loss.terms(student.stages, teacher.stages, LABELS, **drawn)
    for epoch, on in ((1, False), (2, True)):
        distiller.start_epoch(epoch, Recipe.named("mini", frequency_from=2))
        terms = distiller(student, teacher, LABELS, torch.Generator().manual_seed(5))
        assert terms["frequency"].item() == pytest.approx(0.5 * wanted.frequency.item() * on, rel=1e-6)
        assert terms["multi_view"].item() == pytest.approx(2 * wanted.multi_view.item(), rel=1e-6)


def test_published_weights_go_to_the_deepest_stages():
    shapes = ((2, 16), (4, 8), (8, 4), (8, 2), (16, 2))
    student, teacher = detection(0, stages=shapes), detection(1, stages=shapes)
    term = create_distiller("fr", student, teacher)(student, teacher, LABELS)["frequency"]
    maps = zip((0, 0, 1, 2, 0.25), student.stages, teacher.stages, strict=True)
    assert term.item() == pytest.approx(sum(w * frequency_attention_loss(*m).item() for w, *m in maps), rel=1e-5)
    few = detection(0, stages=shapes[:3])
    with pytest.raises(ValueError, match="published for 3 stages; give stage_weights_fr"):
        create_distiller("add", few, few)
    given = {"stage_weights_fr": (1, 2, 0.25), "stage_weights_mv": (0.5, 2.5, 2)}
    assert list(create_distiller("add", few, few, **given)(few, few, LABELS)) == TERMS["add"]


def test_other_widths_get_a_regressor():
    student, teacher = detection(0), detection(1, width=24)
    distiller = create_distiller("fitnet", student, teacher, variant="paper")
    assert [tuple(p.shape) for p in distiller.parameters()] == [(24, 16), (24,)]
    assert torch.isfinite(distiller(student, teacher, LABELS)["hint"])


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("telepathy", {}, "unknown distiller 'telepathy'.*'add'"),
        ("kd", {"temperature": 0}, "temperature is 0"),
        ("none", {"weight": 1}, r"'none' has no \['weight'\]"),
        ("fr", {"beta": 3.0}, r"'fr' has no \['beta'\]"),
        ("add", {"alpha": -1.0}, "alpha"),
        *((name, {"weight": -1}, "weight is -1") for name in ("fitnet", "at", "nl", "kd")),
        ("at", {"weight": "1e3"}, "weight is '1e3'.*YAML"),
    ],
)
def test_errors(name, settings, said):
    with pytest.raises(ValueError, match=said):
        create_distiller(name, detection(0), detection(1), **settings)


def test_other_stages_are_refused_where_they_are_compared():
    student, other = detection(0), detection(1, stages=((4, 8), (8, 4), (8, 2), (8, 2)))
    for name in ("at", "nl", "fr", "mv", "add"):
        with pytest.raises(ValueError, match="stages differ.*same backbone"):
            create_distiller(name, student, other)
    assert create_distiller("kd", student, other) is not None


def test_a_distiller_of_ones_own(monkeypatch):
    monkeypatch.setattr("addlib.training.distillers.DISTILLERS", dict(DISTILLERS))

    @register_distiller("squared", stage=-1)
    class Squared(Distiller):
        def __init__(self, student, teacher, weight=2.0, stage=0):
            super().__init__()
            self.weight, self.stage = weight, stage

        def forward(self, student, teacher, labels, generator=None):
            return {"squared": self.weight * (student.stages[self.stage] - teacher.stages[self.stage]).square().mean()}

    student, teacher = detection(0), detection(1)
    term = create_distiller("squared", student, teacher, weight=3.0)(student, teacher, LABELS)["squared"]
    assert term.item() == pytest.approx(3 * (student.stages[-1] - teacher.stages[-1]).square().mean().item())
    with pytest.raises(ValueError, match=r"'squared' has no \['stage'\]; it has \['weight'\]"):
        create_distiller("squared", student, teacher, stage=1)
    register_distiller("foreign")(lambda student, teacher: torch.nn.Identity())
    with pytest.raises(ValueError, match="'foreign' builds a Identity, expected a Distiller"):
        create_distiller("foreign", student, teacher)
    for build in (Squared, functools.partial(Squared)):
        with pytest.raises(ValueError, match="a distiller 'add' already"):
            register_distiller("add")(build)
        with pytest.raises(ValueError, match="a detector 'resnet18' already"):
            register_detector("resnet18")(build)


def test_defaults_are_the_losses_own():
    loss = {name: p.default for name, p in inspect.signature(ADDLoss).parameters.items() if p.default is not p.empty}
    stages = {"stage_weights_fr": None, "stage_weights_mv": None}
    assert distiller_defaults("add") == loss | stages
    assert distiller_defaults("fr").keys() == (loss | stages).keys() - {"beta"}
    assert distiller_defaults("kd") == {"weight": 1.0, "temperature": 4.0} and distiller_defaults("none") == {}
