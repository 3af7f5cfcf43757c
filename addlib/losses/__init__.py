"""Distillation losses on feature maps (B, C, H, W) of a student and a teacher: those of ADD, and its baselines.

* ``frequency``: frequency attention, eq. 1-3 of the paper
* ``slices``: projections, bins and attention vectors of a map, eq. 4-8, and the true sliced Wasserstein distance
* ``multiview``: multi-view attention, eq. 9, with in-batch pairs
* ``add``: both over the stages of a backbone, eq. 10
* ``baselines``: FitNet hints, attention transfer, non-local features, soft targets

Each is a pure function and a thin module. Maps may have any layout and precision; what does not fit raises ``ValueError``.
No gradient reaches the teacher. In a gradient checkpoint draw first, ``draws = loss.draw(labels)``, or pass no generator.
"""

from .add import PUBLISHED_STAGE_WEIGHTS_FR, PUBLISHED_STAGE_WEIGHTS_MV, ADDLoss, ADDTerms
from .baselines import (
    AttentionTransferLoss,
    HintLoss,
    NonLocalBlock,
    NonLocalLoss,
    SoftTargetLoss,
    attention_map,
    attention_transfer_loss,
    hint_loss,
    non_local_loss,
    soft_target_loss,
)
from .frequency import FrequencyAttention, FrequencyAttentionLoss, frequency_attention, frequency_attention_loss
from .multiview import MultiViewAttentionLoss, draw_pairs, multi_view_attention_loss
from .slices import bin_indices, project_grid, random_directions, sliced_attention, sliced_wasserstein, wasserstein_1d

__all__ = [
    "PUBLISHED_STAGE_WEIGHTS_FR", "PUBLISHED_STAGE_WEIGHTS_MV", "ADDLoss", "ADDTerms", "AttentionTransferLoss",
    "FrequencyAttention", "FrequencyAttentionLoss", "HintLoss", "MultiViewAttentionLoss", "NonLocalBlock",
    "NonLocalLoss", "SoftTargetLoss", "attention_map", "attention_transfer_loss", "bin_indices", "draw_pairs",
    "frequency_attention", "frequency_attention_loss", "hint_loss", "multi_view_attention_loss", "non_local_loss",
    "project_grid", "random_directions", "sliced_attention", "sliced_wasserstein", "soft_target_loss",
    "wasserstein_1d",
]  # fmt: skip
