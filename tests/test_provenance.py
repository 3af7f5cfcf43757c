"""The commit that a row of results is from."""

import subprocess

from addlib import provenance


def git(folder, *arguments):
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_commit(tmp_path):
    assert provenance.commit(tmp_path) == "no commit"
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "one")
    clean = provenance.commit(tmp_path)
    assert len(clean) == 12 and "dirty" not in clean

    (tmp_path / "data" / "results").mkdir(parents=True)
    (tmp_path / "data" / "results" / "runs.csv").write_text("a row")
    assert provenance.commit(tmp_path) == clean, "a sweep's own rows"

    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path) == clean + "-dirty"
