import types

import pandas as pd
import torch

from addlib.training import runs


def module(source, name="made"):
    made = types.ModuleType(name)
    exec(source, made.__dict__)
    return made


def test_keys_depend_on_content_not_on_order():
    assert runs.key_of({"a": 1, "b": [2, None]}) == runs.key_of({"b": [2, None], "a": 1})
    assert runs.key_of({"a": 1}) != runs.key_of({"a": 2})


def test_weights_hash():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    before = runs.hash_of_weights(layer)
    assert before == runs.hash_of_weights(layer)
    with torch.no_grad():
        layer.bias[0] += 1e-6
    assert before != runs.hash_of_weights(layer)


def test_source_hash_ignores_what_does_not_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    texts = {
        "one": 'def f(x):\n    """Says."""\n    return x + 1\n',
        "two": "# a comment\n\n\ndef f(x):\n    '''Says otherwise.'''\n    return (x + 1)\n",
        "three": 'def f(x):\n    """Says."""\n    return x + 2\n',
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / f"source_{name}.py").write_text(text)
        found[name] = runs.hash_of_sources(__import__(f"source_{name}"))
    assert found["one"] == found["two"] != found["three"]


def test_history_prefers_the_later_attempt(tmp_path):
    for number, rows in enumerate(
        [
            "step,epoch,train_loss,val_auc\n9,0,1.0,\n9,0,,.5\n19,1,.9,\n",
            "step,epoch,train_loss,val_auc\n19,1,.8,\n29,1,.7,\n",
        ]
    ):
        folder = tmp_path / "csv" / f"attempt_{number}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(rows)
    history = runs.read_history(tmp_path)
    assert history["step"].tolist() == [9, 19, 29]
    assert history["train_loss"].tolist() == [1.0, 0.8, 0.7]
    assert history["val_auc"][0] == 0.5 and pd.isna(history["val_auc"][1])
    assert runs.read_history(tmp_path / "empty").empty
