from types import SimpleNamespace

import pytest
from torch import nn

from addlib.training import RECIPES, Recipe
from addlib.training.engine import TrainingTask


def test_paper_and_in_what_published_departs_from_it():
    recipe = Recipe.named("paper")
    assert (recipe.optimizer, recipe.betas, recipe.eps) == ("adam", (0.9, 0.999), 1e-8)
    assert (recipe.learning_rate, recipe.batch_size, recipe.validations, recipe.patience) == (2e-4, 144, 10, 10)
    assert recipe.weight_decay == recipe.classifier_epochs == recipe.frequency_from == recipe.shift == 0
    departures = {"warm_up": 0.05, "classifier_epochs": 3, "frequency_from": 3, "cycle_momentum": True}
    assert Recipe.named(recipe, name="published", **departures) == RECIPES["published"]


def test_betas_of_the_paper_hold_through_its_schedule():
    """OneCycleLR would move the first one."""
    seen = {}
    for name in ("paper", "mini"):
        task = TrainingTask(nn.Linear(2, 2), RECIPES[name])
        task._trainer = SimpleNamespace(estimated_stepping_batches=10)
        parts = task.configure_optimizers()
        optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
        seen[name] = betas = set()
        for _ in range(9):
            betas.add(round(optimizer.param_groups[0]["betas"][0], 6))
            optimizer.step()
            schedule.step()
    assert seen["paper"] == {0.9} and min(seen["mini"]) == pytest.approx(0.85, abs=0.01) and max(seen["mini"]) == 0.95


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"epochs": 1.5}, "epochs is 1.5; expected a whole number from 1"),
        ({"epochs": "two"}, "epochs is 'two'; expected a whole number from 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'.*write 1.0e-3"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"betas": 0.9}, "betas is 0.9; expected two numbers"),
        ({"betas": [0.9]}, "betas is .0.9.; expected two numbers"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"flip": None}, "flip is None"),
        ({"patience": 0}, "patience is 0"),
        ({"cycle_momentum": "no"}, "cycle_momentum is 'no'; expected true or false"),
        ({"recipe": {"epochs": 1}}, "unknown recipe {'epochs': 1}"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"speed": 1}, r"no \['speed'\]"),
        ({"recipe": "nature"}, "unknown recipe 'nature'.*'paper'"),
    ],
)
def test_errors_name_the_setting(changes, said):
    with pytest.raises(ValueError, match=said):
        Recipe.named(**{"recipe": "mini"} | changes)


def test_what_differs_from_the_named_recipe():
    """YAML and JSON give betas as a list: that is no difference."""
    changed = Recipe.named("mini", betas=[0.9, 0.999], epochs=2.0)
    assert changed.changes == {"epochs": 2} and type(changed.epochs) is int and changed.batch_size == 32
    assert Recipe("mine", epochs=1).changes["epochs"] == 1 and "name" not in Recipe("mine").changes
