"""Sweeps of notebooks that take seconds, in a project of their own; and of trainings."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from addlib import sweep as module
from addlib.detectors import DETECTORS
from addlib.faceforensics import data_hash
from addlib.files import locked
from addlib.results import Run, read_predictions, read_results, record_measurements
from addlib.sweep import code_behind, read_grid, sweep
from addlib.training import DISTILLERS

ROOT = Path(__file__).resolve().parents[1]
GRIDS = ROOT / "book" / "experiments" / "grids"
CHANGES = {"epochs": 1, "batch_size": 4, "validations": 1}


@pytest.fixture
def project(tmp_path, prepared):
    """A copy of what a sweep needs: where the book is, the notebooks, and crops."""
    shutil.copytree(ROOT / "book" / "experiments", tmp_path / "book" / "experiments")
    shutil.copy(ROOT / "book" / "_toc.yml", tmp_path / "book")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "crops").symlink_to(prepared)
    return tmp_path


def grid(folder, *runs, **more):
    common = {"manipulation": "FaceSwap", "detector": "resnet18_narrow", "recipe": "mini", "changes": CHANGES}
    content = {"profile": "smoke", "crops": "../data/crops", "common": common, "runs": list(runs)} | more
    (folder / "grid.yaml").write_text(yaml.safe_dump(content))
    return folder / "grid.yaml"


def test_a_grid_is_the_product_of_its_lists(tmp_path):
    several = {"quality": "c40", "distiller": "add", "start": ["noise", "teacher"]}
    several["settings"] = [{}, {"alpha": [0.1, 10], "views": 3}]
    plain = {"quality": ["raw", "c40"], "distiller": "none", "seed": [0, 1]}
    about, runs = read_grid(grid(tmp_path, several, plain, {"quality": "c40", "distiller": "none", "seed": 1}))
    assert about == {"profile": "smoke", "crops": "../data/crops", "notebook": "train", "table": "runs"}
    assert len(runs) == 2 * 3 + 4 and runs[0].quality == "raw" and [run.seed for run in runs] == [0] * 8 + [1] * 2
    found = {str(run.settings) for run in runs if run.distiller == "add"}
    assert found == {"{}", '{"alpha": 0.1, "views": 3}', '{"alpha": 10, "views": 3}'}
    wrong = {"a run has no .'alpha'": {"alpha": 1}, "without a distiller": {"settings": {"alpha": 1}}, "seed is 1.5": {"seed": 1.5}}
    wrong = {words: {"quality": "c40"} | entry for words, entry in wrong.items()} | {"it is 'c40'": "c40"}
    for words, entry in wrong.items():
        with pytest.raises(ValueError, match=f"entry 1 of runs: .*{words}"):
            read_grid(grid(tmp_path, entry))
    with pytest.raises(ValueError, match="runs None, expected a mapping and a list of entries"):
        read_grid(grid(tmp_path, runs=None))
    with pytest.raises(ValueError, match=r"crops is .'a', 'b'., expected a text"):
        read_grid(grid(tmp_path, {"quality": "c40"}, crops=["a", "b"]))
    with pytest.raises(ValueError, match="entry 1 of runs: "):
        read_grid(grid(tmp_path, {"quality": "c40", "distiller": "add", "settings": 3}))
    weights = several | {"start": "noise", "settings": {"stage_weights_fr": [[1, 2, 4]], "alpha": [1, 2]}}
    _, runs = read_grid(grid(tmp_path, weights))
    assert [run.settings["stage_weights_fr"] for run in runs] == [[1, 2, 4]] * 2
    for text, words in (
        ("profile: a", r"has \['notebook', 'profile'\]; a grid has profile, crops,"),
        ("", r"has \['notebook'\]; a grid has profile, crops,"), ("a: [1", "is no YAML: "),
    ):  # fmt: skip
        (tmp_path / "grid.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"grid.yaml {words}"):
            read_grid(tmp_path / "grid.yaml")


def test_the_grids_of_this_project():
    """Runs of each, counted by hand."""
    both = {"figure6": 45, "outside": 75, "table2": 18}
    counts = both | {"ablation": 90, "others": 75, "figure5": 27, "smoke": 6, "table1-c23": 90, "table1-c40": 90, "table3": 36, "tuning": 14}
    counts |= {"beyond": 205, "protocol": 200, "protocol-parts": 320, "protocol-c23": 75, "systems": 50, "pull": 24, "search": 208}
    counts["protocol-searched"] = 315
    shared = both | {"ablation": 51, "figure5": 285, "table1": 255, "table3": 225}
    counts |= {f"{name}-{table}": n for name in ("reader", "paper") for table, n in shared.items()}
    grids = {path.stem: read_grid(path) for path in GRIDS.glob("*.yaml")}
    assert {name: len(runs) for name, (_, runs) in grids.items()} == counts
    assert all((GRIDS.parent / f"{about['notebook']}.ipynb").is_file() for about, _ in grids.values())


def test_strengths_of_the_search_follow_from_the_pulls():
    """data/protocol.md: pulls of 0.1, 1 and 10, and 0.01 or 100 beyond an edge; half of each from the two parts of ADD."""
    pulls = pd.read_csv(ROOT / "data" / "results" / "pull.csv").groupby(["distiller", "start"])["value"].apply(list)
    defaults = {"fr": ("alpha", 1), "mv": ("beta", 16), "at": ("weight", 1000)}
    wanted, (_, runs) = {}, read_grid(GRIDS / "search.yaml")
    for (distiller, start), (first, second) in pulls.items():
        name, usual = defaults.get(distiller, ("weight", 1))
        for pull in (0.01, 0.1, 1, 10, 100):
            for whole, own in ((pull, distiller), (pull / 2, "add")) if name != "weight" else ((pull, distiller),):
                value = float(f"{whole * usual / math.sqrt(first * second):.2g}")
                wanted.setdefault((own, start, name), []).append(value)
    found = {}
    for run in runs:
        for name, value in run.settings.items():
            found.setdefault((run.distiller, run.start, name), set()).add(value)
    assert found.keys() == wanted.keys() and len(found) == 16
    for place, values in found.items():
        assert set(wanted[place][1:4]) <= values <= set(wanted[place])


def test_the_second_part_has_the_settings_that_the_search_found():
    """data/protocol.md: the best by mean validation AUC, for each start, where it lies at no edge of what was tried."""
    rows = read_results(ROOT / "data" / "results" / "search.csv")
    rows, found = rows[(rows["quality"] == "c40") & (rows["distiller"] != "none")], {}
    for (distiller, start), part in rows.groupby(["distiller", "start"]):
        means = part.groupby("settings")["val_auc"].mean()
        assert (part.groupby("settings").size() == 4).all(), "two manipulations, two seeds"
        tried = sorted(means.index, key=lambda settings: max(json.loads(settings).values()))
        if (best := means.idxmax()) in tried[1:-1]:
            found[distiller, start] = json.loads(best)
    about, runs = read_grid(GRIDS / "protocol-searched.yaml")
    assert about["table"] == "protocol" and all(run.settings == found[run.distiller, run.start] for run in runs)


def test_what_is_missing_is_named(project):
    for name, words in (("nowhere", r"nowhere.yaml; there are \[.*'tuning'"), (project / "no.yaml", "no grid")):
        with pytest.raises(ValueError, match=words):
            sweep(name, root=project)


def test_code_behind_a_notebook(tmp_path):
    """Its own cells, without their layout, and what they import from addlib."""
    texts, found = ("metrics\nx = 1", "metrics\nx  =  1  # one", "metrics\nx = 2", "results\nx = 1"), []
    for text in texts:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"from addlib import {text}")])
        nbformat.write(notebook, tmp_path / "n.ipynb")
        found.append(code_behind(tmp_path / "n.ipynb"))
    assert found[0] == found[1] and len(set(found)) == 3


# A notebook that trains nothing. It notes that it ran, under which environment; waits to be killed, or fails, if told so.
MEASURE = """
import os, time
from pathlib import Path
from addlib.results import Run, record_measurements
folder = Path("../../data")
(folder / f"pid-{seed}").write_text(str(os.getpid()))
with (folder / "log").open("a") as file:
    file.write(f"{seed} {retrain} {os.environ['OMP_NUM_THREADS']} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
while (folder / f"wait-{seed}").exists():
    time.sleep(0.05)
assert not (folder / f"fail-{seed}").exists(), "told to fail"
if detector == "tiny":
    from addlib.detectors import create_detector
    from addlib.training import create_distiller
    create_detector(detector), create_distiller(distiller, None, None)
run = Run(manipulation, quality, detector, distiller, recipe, changes, seed, start, settings)
rows = [{"data": "DATA", "code": code, "condition": name} for name in ("dark", "bright")]
record_measurements(run, profile, rows, folder / "results" / f"{table}.csv")
"""


@pytest.fixture
def measure(project):
    """A grid of three runs for that notebook."""
    names = [*Run.__dataclass_fields__, "profile", "crops", "code", "retrain", "table"]
    source = "\n".join(f"{name} = None" for name in names)
    parameters = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    cell = nbformat.v4.new_code_cell(MEASURE.replace("DATA", data_hash(project / "data" / "crops")))
    notebook = nbformat.v4.new_notebook(cells=[parameters, cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, project / "book" / "experiments" / "measure.ipynb")
    return grid(project, {"quality": "c40", "seed": [0, 1, 2]}, notebook="measure", table="apart")


def ran(project):
    log = project / "data" / "log"
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


@pytest.mark.slow
def test_what_a_sweep_runs_and_what_it_says(project, measure, capfd):
    """A killed run is listed and run by the next sweep. force and stale tell the notebook to train again."""
    data, table = project / "data", project / "data" / "results" / "apart.csv"
    assert sweep(measure, workers=1, limit=1, root=project) is True, "what was tried has its row"
    assert [line[:2] for line in ran(project)] == [["0", "False"]] and "0 rows by other code" in capfd.readouterr().out
    (data / "wait-1").touch()

    def kill():
        while not (pid := data / "pid-1").exists() or not pid.read_text():
            time.sleep(0.05)
        (data / "wait-1").unlink()
        os.kill(int(pid.read_text()), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    before = dict(os.environ)
    again = shutil.copy(measure, project / "again.yaml")  # what two grids ask for is run once
    assert sweep(measure, again, workers=1, root=project) is False and os.environ == before
    said = capfd.readouterr()
    assert "grid: 3 runs, 2 to run" in said.out and "again: 3 runs, 2 to run" in said.out
    assert "FAIL  FaceSwap c40 resnet18_narrow none" in said.out and "1 of 2 failed" in said.err
    assert read_results(table)["seed"].tolist() == [0, 0, 2, 2] and not table.with_name("runs.csv").exists()
    assert sweep(measure, workers=1, root=project) is True and "3 runs, 1 to run" in capfd.readouterr().out
    assert read_results(table)["seed"].tolist() == [0, 0, 1, 1, 2, 2] and len(ran(project)) == 3

    (data / "fail-2").touch()
    assert sweep(measure, workers=2, force=True, root=project) is False, "an old row is no success"
    assert sorted(line[:2] for line in ran(project)) == [["0", "True"], ["1", "True"], ["2", "True"]]
    assert "AssertionError: told to fail" in capfd.readouterr().out
    old = read_results(table).iloc[0]
    record_measurements(Run.of(old), "smoke", [{"data": old["data"], "code": "0" * 12, "condition": "old"}], table)
    assert sweep(measure, workers=1, root=project) is True and not ran(project)
    assert "1 rows by other code" in capfd.readouterr().out
    assert sweep(measure, workers=1, stale=True, root=project) is True and len(ran(project)) == 1


PLUGIN = """
from addlib.detectors import Detection, register_detector
from addlib.training import Distiller, register_distiller
from torch import nn

@register_detector("tiny")
class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x):
        seen = x.mean((2, 3))
        return Detection((x,), seen, self.head(seen))

@register_distiller("nothing")
class Nothing(Distiller):
    def __init__(self, student, teacher, weight=1.0):
        super().__init__()

    def forward(self, *answers):
        return {}
"""


@pytest.mark.slow
def test_a_plugin_gives_a_grid_names_of_its_own(project, measure, monkeypatch, capfd):
    """In the process that sweeps and in those that run; its code counts as code of the rows."""
    monkeypatch.setattr("addlib.detectors.DETECTORS", dict(DETECTORS))
    monkeypatch.setattr("addlib.training.distillers.DISTILLERS", dict(DISTILLERS))
    (project / "mine.py").write_text(PLUGIN)
    run = {"quality": "c40", "detector": "tiny", "distiller": "nothing", "settings": {"weight": [1, 2]}}
    own = grid(project, run, notebook="measure", table="apart", plugin="../mine.py")
    assert sweep(own, workers=2, root=project) is True
    rows = read_results(project / "data" / "results" / "apart.csv")
    assert set(rows["detector"]) == {"tiny"} and set(rows["settings"]) == {"{}", '{"weight": 2}'}, "1 is its default"
    (project / "mine.py").write_text(PLUGIN.replace("Linear(3", "Linear( 3"))
    capfd.readouterr()
    assert sweep(own, workers=1, root=project) is True and "0 rows by other code" in capfd.readouterr().out
    (project / "mine.py").write_text(PLUGIN.replace("{}", "dict()"))
    assert sweep(own, workers=1, root=project) is True and "2 rows by other code" in capfd.readouterr().out
    ran(project)
    assert sweep(own, workers=1, limit=1, stale=True, root=project) is True and len(ran(project)) == 1
    for text, words in (("1 / 0", "mine.py fails: ZeroDivisionError: division by zero"), (None, "no plugin at")):
        (project / "mine.py").write_text(text) if text else (project / "mine.py").unlink()
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            sweep(own, workers=1, root=project)


def test_runs_on_what_was_not_prepared_are_refused_before_the_first(project):
    for wrong, words in (
        ({"quality": "c41"}, r"no crops of \[\('FaceSwap', 'c41'\)\] in .*; there are \[\('Deepfakes', 'c23'\), "),
        ({"quality": "c40", "manipulation": "FaceSwop"}, r"no crops of \[\('FaceSwop', 'c40'\)\]"),
    ):
        with pytest.raises(ValueError, match=words):
            sweep(grid(project, {"quality": "c40"}, wrong), workers=1, root=project)
    for wrong, words in (  # a teacher would be trained before they are met
        ({"distiller": "adds"}, "grid.yaml, FaceSwap c40 .*unknown distiller 'adds'"),
        ({"detector": "resnet19"}, "unknown detector 'resnet19'"),
        ({"distiller": "add", "settings": {"alhpa": 1}}, "distiller 'add' has no .'alhpa'"),
        ({"distiller": "add", "settings": {"alpha": -1}}, "alpha is -1, expected a finite number"),
        ({"distiller": "kd", "settings": {"weight": "1e3"}}, "YAML takes 1e3 for text"),
        ({"changes": {"epoch": 1}}, "grid.yaml, FaceSwap .*a recipe has no .'epoch'"),
    ):
        with pytest.raises(ValueError, match=words):
            sweep(grid(project, {"quality": "c40"} | wrong), workers=1, root=project)
    for wrong in ({"workers": 0}, {"limit": -1}):
        with pytest.raises(ValueError, match="expected 1 or more"):
            sweep(grid(project, {"quality": "c40"}), root=project, **wrong)
    with pytest.raises(FileNotFoundError, match="no manifest.csv in .*more"):
        sweep(grid(project, {"quality": "c40"}, test_crops="../data/more"), workers=1, root=project)


@pytest.mark.slow
def test_children_get_the_gpus_of_their_parent_and_share_the_cores(project, measure, monkeypatch, tmp_path):
    """With CUDA_VISIBLE_DEVICES=2,3 no run may see 0 or 1; one that is taken is left alone."""
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-3f")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("addlib.parallel.allotted_processes", lambda: 6)
    monkeypatch.setattr(module, "_gpus", module._gpus.__wrapped__)  # without what it remembers
    with locked(tmp_path / f"addlib-{os.getuid()}" / "gpu-2.lock"):
        assert sweep(measure, workers=1, limit=1, root=project) is True
    assert sweep(measure, workers=1, limit=1, root=project) is True
    assert [line[2:] for line in ran(project)] == [["6", "GPU-3f"], ["6", "2"]]


@pytest.mark.slow
def test_threads_of_a_dask_worker_do_not_change_each_others_environment(project, measure, monkeypatch, tmp_path):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "_gpus", lambda: ("0", "1"))
    about, runs = read_grid(measure)
    source, before = project / "book" / "experiments" / f"{about.pop('notebook')}.ipynb", dict(os.environ)
    (project / "data" / "wait-0").touch()
    shown = []

    def job(run):
        given = run.parameters | about | {"code": "", "retrain": False}
        return module.execute((str(project), str(source), str(run), str(run.seed), given, 1, 1))

    with ThreadPoolExecutor(2) as pool:
        waiting, other = (pool.submit(job, run) for run in runs[:2])
        shown.append(other.result()[2])
        assert dict(os.environ) == before, "while the other runs"
        (project / "data" / "wait-0").unlink()
        shown.append(waiting.result()[2])
    assert shown == ["", ""] and sorted(line[3] for line in ran(project)) == ["0", "1"]


def test_settings_that_a_backbone_brings_are_no_change(project, monkeypatch, capfd):
    """Whether they are named or not, it is one training; what differs from them is another."""
    student = {"quality": "c40", "detector": "efficientnet_b0_narrow", "distiller": "add"}
    several = [{}, {"gamma_fr": [0.001, 1.0]}]
    monkeypatch.setattr("addlib.parallel.map_unordered", lambda function, jobs, **how: found.extend(jobs) or [])
    found = []
    sweep(grid(project, student | {"settings": several}), workers=1, root=project)
    assert "2 runs, 2 to run" in capfd.readouterr().out
    assert [job[4]["settings"] for job in found] == [{}, {"gamma_fr": 1}]


def test_more_runs_than_gpus_share_them_evenly(monkeypatch, tmp_path):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "_gpus", lambda: ("2", "GPU-3f"))
    with contextlib.ExitStack() as stack:
        given = [stack.enter_context(module._a_gpu(2))["CUDA_VISIBLE_DEVICES"] for _ in range(4)]
    assert given == ["2", "GPU-3f", "2", "GPU-3f"]


ANOTHER_USER = """
import os, sys
import filelock  # beforehand: the user may not read where it is installed
from addlib import sweep
sweep._gpus = lambda: ("2",)
os.setuid(int(sys.argv[1]))
with sweep._a_gpu() as chosen:
    print(chosen["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(getattr(os, "getuid", int)() != 0, reason="only root may become other users")
def test_two_users_on_one_machine_stand_in_nobodys_way():
    with tempfile.TemporaryDirectory() as shared, contextlib.ExitStack() as stack:
        os.chmod(shared, 0o1777)
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ | {"TMPDIR": shared}}
        for user in ("65533", "65534"):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", ANOTHER_USER, user], **options))
            assert process.stdout.readline() == "2\n", "while the other holds a lock of the same name"
        assert sorted(os.listdir(shared)) == ["addlib-65533", "addlib-65534"]


@pytest.mark.slow
def test_a_training_and_what_is_measured_on_it(project, tree, prepared):
    """The notebooks of this repository, from the grid to the rows, on one student and its teacher."""
    data, run = project / "data", {"quality": "c40", "distiller": "add"}
    (data / "crops").unlink()
    shutil.copytree(prepared, data / "crops" / "small")
    shutil.copytree(tree, data / "small")
    where = {"crops": "../data/crops/small"}
    assert sweep(grid(project, run, **where, test_crops=where["crops"]), workers=1, root=project) is True
    (row,) = read_results(data / "results" / "runs.csv").to_dict("records")
    assert row["large_auc"] == row["auc"] and row["large_images"] == row["images"]
    folders = {path.parent.name.rsplit("-", 1)[1] for path in (data / "runs").glob("*/row.json")}
    assert len(folders) == 2 and row["key"] in folders, "one key; and the teacher's"
    splits = read_predictions(row["key"], data / "results" / "runs.csv")["split"].value_counts()
    assert splits["test"] == splits["large"] == row["images"]
    for notebook, conditions in (("look", {"none", "shuffle"}), ("outside", {"raw", "c40", "jpeg 75"})):
        assert sweep(grid(project, run, notebook=notebook, **where), workers=1, root=project) is True
        found = read_results(data / "results" / f"{notebook}.csv")
        assert conditions <= set(found["condition"]) and set(found["key"]) == {row["key"]}
    assert len(list((data / "runs").glob("*/row.json"))) == 2, "nothing was trained again"
    twice = {"quality": "c40", "distiller": "fr", "settings": {"alpha": [1, 2]}}
    assert sweep(grid(project, twice, notebook="pull", **where), workers=1, root=project) is True
    found = read_results(data / "results" / "pull.csv").set_index("settings")
    assert found["value"]['{"alpha": 2}'] == pytest.approx(2 * found["value"]["{}"], rel=1e-3) and found["value"].min() > 0
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
