"""What pages state, against the rows: values by scikit-learn, seeds that count, and that no stated number is out of date."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

import findings
from addlib.files import project_root
from addlib.results import Run, read_predictions, read_results, record
from findings import FIVE, finding, refresh, stated, values_of

PAIRS = [("000", "141"), ("001", "063"), ("002", "088")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two arms at five manipulations: three seeds of one, two of the other, which is also in the table of more people."""
    folder, draws = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    names = [(kind, f"{a}_{b}") for pair in PAIRS for a, b in (pair, pair[::-1]) for kind in ("fake", "original")]
    for kind in FIVE:
        videos = [f"{kind}/{name}" if what == "fake" else f"original/{name[:3]}" for what, name in names]
        index = pd.DataFrame({"split": "large", "video": np.repeat(videos, 2), "frame": [0, 1] * len(videos)})
        index["label"] = np.repeat([int(what == "fake") for what, _ in names], 2)
        for distiller, seed in [("none", 0), ("none", 1), ("none", 2), ("add", 0), ("add", 2)]:
            run = Run(kind, "c40", "resnet18_narrow", distiller, "mini", seed=seed)
            odds = draws.normal(index["label"] * (1 + seed), 2).round(1)
            predictions = index.assign(log_odds=odds)
            record(run.columns | {"data": "d"}, "protocol", predictions=predictions, path=folder / "protocol.csv")
            if distiller == "add":
                run = Run(kind, "c40", "resnet18_narrow", distiller, "mini", {"epochs": 2}, seed)
                predictions["log_odds"] += draws.normal(size=len(index)).round(1)
                record(run.columns | {"data": "m"}, "beyond", predictions=predictions, path=folder / "beyond.csv")
    return folder


def test_sides_of_a_seed_are_of_the_same_crops_and_of_c40(folder, tmp_path):
    """Trained again on another machine, whose crops differ, or at another quality, a seed does not count twice."""
    shutil.copytree(folder, tmp_path / "results")
    shutil.copytree(folder, tmp_path / "lacking")
    odds = read_predictions(read_results(folder / "protocol.csv")["key"][0], folder / "protocol.csv")
    for data, quality in (("other", "c40"), ("d", "c23")):
        run = Run(FIVE[0], quality, "resnet18_narrow", "none", "mini", seed=2)
        record(run.columns | {"data": data}, "protocol", predictions=odds, path=tmp_path / "results" / "protocol.csv")
    assert len(read_results(tmp_path / "results" / "protocol.csv")) == len(read_results(folder / "protocol.csv")) + 2
    assert finding("add@noise - none@noise", tmp_path / "results") == finding("add@noise - none@noise", folder)
    assert set(findings.rows_of("none@noise", folder=tmp_path / "results")["data"]) == {"d"}
    run = Run(FIVE[0], "c40", "resnet18_narrow", "none", "mini", seed=9)
    record(run.columns | {"data": "d"}, "protocol", predictions=odds, path=tmp_path / "lacking" / "protocol.csv")
    assert 9 in set(findings.rows_of("none@noise", folder=tmp_path / "lacking")["seed"])
    assert values_of(f"none@noise: {FIVE[0]}", tmp_path / "lacking")[0] == [0, 1, 2], "a seed that lacks manipulations"


def by_hand(folder, distiller, seed, measure, table="protocol"):
    """The mean over the manipulations, by scikit-learn."""
    path = folder / f"{table}.csv"
    rows = read_results(path).query("distiller == @distiller and seed == @seed")
    found = []
    for key in rows["key"]:
        seen = read_predictions(key, path)
        if measure.startswith("video"):
            seen["log_odds"] = 1 / (1 + np.exp(-seen["log_odds"])) - 0.5
            seen = seen.groupby("video", sort=False)[["label", "log_odds"]].mean()
        score = roc_auc_score if measure.endswith("auc") else accuracy_score
        found.append(score(seen["label"], seen["log_odds"] > 0 if score is accuracy_score else seen["log_odds"]))
    return 100 * np.mean(found)


@pytest.mark.parametrize("measure", ["auc", "accuracy", "video auc", "video accuracy"])
def test_a_finding_is_the_mean_over_seeds_and_manipulations(folder, measure):
    first, second = ([by_hand(folder, each, seed, measure) for seed in (0, 2)] for each in ("add", "none"))
    found = finding(f"add@noise - none@noise, {measure}", folder)
    assert found.seeds == 2 and found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert np.isnan([found.low, found.high]).all() and found.verdict == "not known", "two seeds give no interval"
    assert findings.short_verdict(found._replace(verdict="no difference larger than δ")) == "within δ"
    alone = finding(f"none@noise, {measure}", folder)
    assert alone.seeds == 3 and alone.verdict == "" and alone.low < alone.mean < alone.high
    assert findings.seeds_of("none@noise", folder) == {0, 1, 2} and findings.seeds_of("add@noise", folder) == {0, 2}
    seeds, values = values_of(f"none@noise: FaceSwap, {measure}", folder)
    assert seeds == [0, 1, 2] and values.shape == (3, len(PAIRS))


@pytest.mark.parametrize(
    ("mean", "low", "high", "text"),
    [
        (0.02, -0.4, 0.5, "0.0\xa0points (−0.4 to 0.5)"),  # a zero has no direction
        (1.2, 0.03, 2.4, "+1.2\xa0points (0.03 to 2.40)"),
        (-0.6, -1.97, 0.7, "−0.6\xa0points (−1.97 to 0.70)"),  # the verdict hangs on δ
        (3.5, 2.0, 5.1, "+3.5\xa0points (2.0 to 5.1)"),
    ],
)
def test_an_end_on_which_the_verdict_hangs_is_finer(mean, low, high, text):
    assert str(findings.Finding("x", mean, low, high, 8, "not known")) == text


def test_words_of_an_arm_choose_the_table_and_the_measure_of_one_side(folder):
    first = [by_hand(folder, "add", seed, "video auc", "beyond") for seed in (0, 2)]
    second = [by_hand(folder, "none", seed, "auc") for seed in (0, 2)]
    found = finding("add@noise more video - none@noise", folder)
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second)) and found.seeds == 2
    assert finding("add@noise more video", folder).mean == finding("add@noise more, video auc", folder).mean
    assert finding("add@noise video more", folder).mean == finding("add@noise more video", folder).mean, "in any order"
    assert finding("add@noise more", folder).mean not in (finding("add@noise more video", folder).mean, finding("add@noise", folder).mean)
    with pytest.raises(ValueError, match=r"an arm has no \['mroe'\]; it may have \['c23', 'video', 'more'"):
        finding("add@noise mroe", folder)


def test_epochs_of_an_arm(folder, tmp_path):
    """With more people two are the usual ones, and the eight of the recipe are no change of it."""
    shutil.copytree(folder, tmp_path / "results")
    first = read_results(folder / "beyond.csv").iloc[0]
    odds = read_predictions(first["key"], folder / "beyond.csv")
    runs = {n: Run(first["manipulation"], "c40", "resnet18_narrow", "add", "mini", {"epochs": n} if n != 8 else {}, 7) for n in (4, 8)}
    for run in runs.values():
        record(run.columns | {"data": "m"}, "beyond", predictions=odds, path=tmp_path / "results" / "beyond.csv")
    for epochs, run in runs.items():
        assert findings.rows_of(f"add@noise+{epochs} more", folder=tmp_path / "results")["key"].tolist() == [run.key("m")]
    for arm in ("add@noise more", "add@noise+2 more"):
        assert 7 not in set(findings.rows_of(arm, folder=tmp_path / "results")["seed"])


def test_a_word_of_an_arm_chooses_the_quality(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "results")
    for number, kind in enumerate(FIVE):
        path = folder / "protocol.csv"
        odds = read_predictions(read_results(path).query("manipulation == @kind")["key"].iloc[0], path)
        odds["log_odds"] = odds["label"] * 1.0 - (number == 0)  # right everywhere
        run = Run(kind, "c23", "resnet18_narrow", "none", "mini", seed=0)
        record(run.columns | {"data": "d"}, "protocol", predictions=odds, path=tmp_path / "results" / "protocol.csv")
    assert finding("none@noise c23", tmp_path / "results").mean == 100
    assert finding("none@noise", tmp_path / "results") == finding("none@noise", folder)
    apart = finding("none@noise c23 - none@noise", tmp_path / "results")
    assert apart.seeds == 1 and apart.mean == pytest.approx(100 - by_hand(folder, "none", 0, "auc"))


def test_settings_of_an_arm_choose_among_the_ablations_of_one_manipulation(folder, tmp_path):
    draws, odds = np.random.default_rng(1), read_predictions(read_results(folder / "protocol.csv")["key"][0], folder / "protocol.csv")
    scores = {}
    for name, settings in (("", {}), (" views=3", {"views": 3}), (" coordinates=unit", {"coordinates": "unit"})):
        for seed, table in ((0, "ablation"), (1, "ablation"), (2, "ablation"), (0, "runs")):
            odds["log_odds"] = draws.normal(odds["label"], 2).round(1)
            split = odds.assign(split="test" if table == "runs" else "large")
            profile, detector = ("paper", "resnet50") if table == "runs" else ("ablation", "resnet18_narrow")
            run = Run("NeuralTextures", "c40", detector, "add", "mini", seed=seed, settings=settings)
            record(run.columns | {"data": "d"}, profile, predictions=split, path=tmp_path / f"{table}.csv")
            scores.setdefault((name, profile), []).append(100 * roc_auc_score(odds["label"], odds["log_odds"]))
            other = Run("NeuralTextures", "c40", "resnet34", "add", "mini", seed=seed, settings=settings)
            wrong = split.assign(log_odds=-split["log_odds"])  # of another detector and profile
            record(other.columns | {"data": "d"}, profile, predictions=wrong, path=tmp_path / f"{table}.csv")
            record(run.columns | {"data": "e"}, "mine", predictions=wrong, path=tmp_path / f"{table}.csv")
    for (name, profile), expected in scores.items():
        assert finding(f"add@noise {profile}{name}", tmp_path).mean == pytest.approx(np.mean(expected))
    apart = finding("add@noise ablation views=3 - add@noise ablation", tmp_path)
    assert apart.mean == pytest.approx(np.mean(scores[" views=3", "ablation"]) - np.mean(scores["", "ablation"]))
    wide = finding("add@noise ablation views=3 - add@noise ablation: NeuralTextures", tmp_path)
    assert apart.seeds == 3 and apart.mean == wide.mean and wide.low < apart.low, "of one named beforehand, at 95 %"
    for wrong in ("add@noise ablation: FaceSwap", "add@noise - add@noise ablation", "add@noise ablation - add@noise"):
        with pytest.raises(ValueError, match="compares what was trained on"):
            finding(wrong, tmp_path)
    run = Run("NeuralTextures", "c40", "resnet18_narrow", "add", "published", seed=0, settings={"views": 3})
    record(run.columns | {"data": "d"}, "ablation", predictions=split, path=tmp_path / "ablation.csv")
    findings._table.cache_clear(), findings.seeds_of.cache_clear()
    with pytest.raises(ValueError, match="several trainings of 'add@noise ablation views=3' on NeuralTextures have one seed"):
        finding("add@noise ablation views=3, accuracy", tmp_path)
    with pytest.raises(ValueError, match=r"no seed has all of 'add@noise ablation views=4' on \('NeuralTextures',\)"):
        finding("add@noise ablation views=4", tmp_path)


def test_what_is_missing_is_named(folder):
    with pytest.raises(ValueError, match=r"no seed has all of 'kd@noise'.*sweep the grids"):
        finding("kd@noise", folder)


def test_stated_numbers_are_refreshed(tmp_path, monkeypatch):
    invented = {"a - b": findings.Finding("a - b", 1.26, -0.04, 3, 3, "better")}
    monkeypatch.setattr(findings, "finding", invented.__getitem__)
    (tmp_path / "README.md").write_text("**?**<!-- a - b --> is **worse**<!-- verdict a - b -->; **bold** stays")
    assert len(refresh(tmp_path)) == 2 and refresh(tmp_path) == []
    text = (tmp_path / "README.md").read_text()
    space = "\N{NO-BREAK SPACE}"
    assert text == f"**+1.3{space}points (−0.04 to 3.00)**<!-- a - b --> is **better**<!-- verdict a - b -->; **bold** stays"


@pytest.mark.parametrize("page", findings.pages(), ids=lambda page: page.name)
def test_no_page_states_what_the_rows_do_not_say(page):
    found = stated(page.read_text(encoding="utf-8"))
    if str(page.relative_to(project_root())) in findings.MAIN:
        assert found, f"{page} states nothing"
    wrong = [f"{name}: {words!r}, the rows say {now!r}" for words, now, name in found if words != now]
    assert not wrong, f"{wrong}; python -m findings in book/ writes them"
