"""The plain forms that the benchmark compares with are what they claim to be, its command line runs, and memory is bounded."""

import json
import sys

import numpy as np
import pytest
import torch


def test_plain_forms_match_the_loops(benchmark_script, maps, oracle):
    student, teacher = (m.detach() for m in maps((4, 6, 3, 3)))
    value, _, _ = oracle.frequency_loss(student.numpy(), teacher.numpy(), 1.0)
    assert benchmark_script.plain_frequency(student, teacher).item() == pytest.approx(value, rel=1e-12)
    directions = benchmark_script.random_directions(3)
    pairs = benchmark_script.draw_pairs(torch.tensor([0, 1, 0, 1]))
    vectors = [oracle.published_attention(m.numpy(), directions.numpy(), 3) for m in (student, teacher)]
    value = oracle.multi_view_loss(*vectors, *(index.numpy() for index in pairs), 100.0, 50.0, 0.012)
    found = benchmark_script.plain_multi_view(student, teacher, pairs, directions).item()
    assert found == pytest.approx(value, rel=1e-5)


def test_command_line(benchmark_script, tmp_path, monkeypatch, capsys):
    out = tmp_path / "losses.json"
    monkeypatch.setattr(benchmark_script, "STAGES", ((8, 4, 1.0, 0.5), (16, 2, 2.0, 2.5), (16, 1, 0.25, 2.0)))
    monkeypatch.setattr(sys, "argv", ["losses.py", "--batch", "4", "--repeats", "1", "--json", str(out)])
    benchmark_script.main()
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 7 and {row["loss"] for row in rows if row["stage"] == "all"} == {"ADD"}
    assert np.isfinite([row["ratio"] for row in rows]).all() and rows[-1]["fast_memory"] > 0
    assert "ADD" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "stages"), [("FR", (0,)), ("FR", (1,)), ("MV", (1,)), ("ADD", (0, 1, 2))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_at_most_one_and_a_half_times_the_maps(name, stages, dtype, benchmark_script):
    """At the paper's batch, by FFT and by Gram matrix; in multiples of the maps in float32, whatever the precision."""
    setting = benchmark_script.Setting(144, 12, "cpu", ((32, 16, 1.0, 0.5), (128, 8, 2.0, 2.5), (128, 4, 0.25, 2.0)))
    maps = setting.bytes_of_maps(stages)
    setting.maps = [(s.detach().to(dtype).requires_grad_(), t.to(dtype)) for s, t in setting.maps]
    assert 0.1 * maps < benchmark_script.peak_memory(lambda: setting.step("fast", name, stages), "cpu") < 1.5 * maps
