"""Peak of what torch allocates beyond the maps, against the maps of student and teacher together."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from addlib.losses import ADDLoss, frequency_attention_loss, multi_view_attention_loss

# Batch 144, as in the paper, and few enough channels for a test. The index tables of the slices, which a batch shares,
# weigh the more the smaller the batch.
LABELS = torch.arange(144) % 2
CASES = {
    "frequency by FFT": ([(144, 16, 16, 16)], lambda s, t: frequency_attention_loss(s[0], t[0])),
    "frequency by Gram matrix": ([(144, 128, 8, 8)], lambda s, t: frequency_attention_loss(s[0], t[0])),
    "multi-view": ([(144, 64, 8, 8)], lambda s, t: multi_view_attention_loss(s[0], t[0], LABELS)),
    "add": (
        [(144, 32, 16, 16), (144, 64, 8, 8), (144, 128, 4, 4)],
        lambda s, t: ADDLoss([1, 2, 0.25], [0.5, 2.5, 2])(s, t, LABELS),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_is_at_most_one_and_a_half_times_the_maps(name, dtype):
    shapes, loss = CASES[name]
    student = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    teacher = [torch.randn(shape).to(dtype) for shape in shapes]
    maps = sum(tensor.numel() * 4 for tensor in student + teacher)  # of float32, whatever the precision
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss(student, teacher).backward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert 0.1 * maps < peak < 1.5 * maps
