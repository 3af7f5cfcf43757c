from types import SimpleNamespace

import pytest
from torch import nn

from addlib.training import RECIPES, Recipe
from addlib.training.task import TrainingTask


def test_paper():
    recipe = Recipe.named("paper")
    assert (recipe.optimizer, recipe.betas, recipe.eps) == ("adam", (0.9, 0.999), 1e-8)
    assert (recipe.learning_rate, recipe.batch_size, recipe.validations, recipe.patience) == (2e-4, 144, 10, 10)
    assert recipe.weight_decay == recipe.classifier_epochs == recipe.frequency_from == recipe.shift == 0


def test_published_departs_from_paper_in_four_settings():
    paper, published = RECIPES["paper"], RECIPES["published"]
    departures = {"warm_up": 0.05, "classifier_epochs": 4, "frequency_from": 4, "cycle_momentum": True}
    assert Recipe.named(paper, name="published", **departures) == published


def test_betas_of_the_paper_hold_through_its_schedule():
    """OneCycleLR would move the first one."""
    seen = {}
    for name in ("paper", "mini"):
        task = TrainingTask(nn.Linear(2, 2), RECIPES[name])
        task._trainer = SimpleNamespace(estimated_stepping_batches=10)
        parts = task.configure_optimizers()
        optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
        betas = set()
        for _ in range(9):
            betas.add(round(optimizer.param_groups[0]["betas"][0], 6))
            optimizer.step()
            schedule.step()
        seen[name] = betas
    assert seen["paper"] == {0.9} and min(seen["mini"]) == pytest.approx(0.85, abs=0.01) and max(seen["mini"]) == 0.95


def test_changes():
    assert Recipe.named("mini", epochs=2).epochs == 2
    assert Recipe.named(RECIPES["mini"]) is not None and Recipe.named("mini", epochs=2).batch_size == 32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"patience": 0}, "patience is 0"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"speed": 1}, r"no \['speed'\]"),
    ],
)
def test_errors_name_the_setting(changes, said):
    with pytest.raises(ValueError, match=said):
        Recipe.named("mini", **changes)


def test_what_differs_from_the_named_recipe():
    """YAML and JSON give betas as a list: that is no difference."""
    assert Recipe.named("mini", betas=[0.9, 0.999], epochs=2).changes == {"epochs": 2}
    assert Recipe("mine", epochs=1).changes["epochs"] == 1 and "name" not in Recipe("mine").changes


def test_unknown_recipe():
    with pytest.raises(ValueError, match="unknown recipe 'nature'.*'paper'"):
        Recipe.named("nature")
