import shutil

import pytest

from addlib import training
from addlib.experiments import Cell
from addlib.experiments.kept import kept, trained

CHANGES = {"epochs": 1, "batch_size": 4, "validations": 1}


def cell(quality="c40", distiller="none", **settings):
    return Cell("FaceSwap", quality, "resnet18_narrow", distiller, "mini", CHANGES, **settings)


@pytest.mark.slow
def test_what_is_kept_is_not_trained_again(prepared, tmp_path, monkeypatch):
    student = trained(cell(distiller="fr", alpha=0.5), prepared, tmp_path)
    assert student.row["distiller"] == "fr" and student.row["settings"]["alpha"] == 0.5
    assert kept(cell("raw"), prepared, tmp_path) is not None, "its teacher is kept too"
    assert kept(cell(distiller="fr", alpha=0.25), prepared, tmp_path) is None
    assert kept(cell(distiller="fr", alpha=0.5, seed=1), prepared, tmp_path) is None

    # Another version of the code gives another key, and so another folder.
    (folder,) = tmp_path.glob("FaceSwap-c40-*/row.json")
    shutil.move(folder.parent, f"{str(folder.parent)[:-4]}beef")
    for name in ("fit_detector", "fit_student"):
        monkeypatch.setattr(f"addlib.experiments.kept.{name}", lambda *_, **__: pytest.fail("trained again"))
    again = trained(cell(distiller="fr", alpha=0.5), prepared, tmp_path)
    assert again.row == student.row
    state, same = (run.detector.state_dict() for run in (student, again))
    assert all((state[name] == same[name]).all() for name in state)
    assert isinstance(again, training.Trained)


@pytest.mark.slow
def test_options_of_a_detector_are_kept(prepared, tmp_path):
    options = {"recipe": "mini", "changes": CHANGES | {"shift": 96}, "folder": tmp_path}
    first = training.fit_detector(prepared, "FaceSwap", "raw", detector="f3net", **options)
    found = kept(Cell("FaceSwap", "raw", "f3net", "none", "mini", options["changes"]), prepared, tmp_path)
    assert found.detector.options == first.detector.options == {"size": 32}
