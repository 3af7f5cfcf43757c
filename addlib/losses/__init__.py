"""Distillation losses on feature maps (B, C, H, W) of a student and a teacher: those of ADD, and its baselines.

* ``frequency``: frequency attention, eq. 1-3 of the paper
* ``sliced``: projections, bins and attention vectors of a map, and the true sliced Wasserstein distance
* ``multiview``: multi-view attention, eq. 9, with in-batch pairs
* ``add``: both over the stages of a backbone, eq. 10
* ``hint``: baseline: FitNet
* ``attention_transfer``: baseline: AT
* ``non_local``: baseline: NL

Each loss is a pure function and a thin module that stores its settings. No gradient reaches a teacher.
"""

from addlib.losses.add import PUBLISHED_STAGE_WEIGHTS_FR, PUBLISHED_STAGE_WEIGHTS_MV, ADDLoss, ADDTerms
from addlib.losses.attention_transfer import AttentionTransferLoss, attention_map, attention_transfer_loss
from addlib.losses.frequency import (
    FrequencyAttention,
    FrequencyAttentionLoss,
    frequency_attention,
    frequency_attention_loss,
)
from addlib.losses.hint import HintLoss, hint_loss
from addlib.losses.multiview import MultiViewAttentionLoss, draw_pairs, multi_view_attention_loss
from addlib.losses.non_local import NonLocalBlock, NonLocalLoss, non_local_loss
from addlib.losses.sliced import (
    bin_indices,
    project_grid,
    random_directions,
    sliced_attention,
    sliced_wasserstein,
    wasserstein_1d,
)

__all__ = [
    "PUBLISHED_STAGE_WEIGHTS_FR",
    "PUBLISHED_STAGE_WEIGHTS_MV",
    "ADDLoss",
    "ADDTerms",
    "AttentionTransferLoss",
    "FrequencyAttention",
    "FrequencyAttentionLoss",
    "HintLoss",
    "MultiViewAttentionLoss",
    "NonLocalBlock",
    "NonLocalLoss",
    "attention_map",
    "attention_transfer_loss",
    "bin_indices",
    "draw_pairs",
    "frequency_attention",
    "frequency_attention_loss",
    "hint_loss",
    "multi_view_attention_loss",
    "non_local_loss",
    "project_grid",
    "random_directions",
    "sliced_attention",
    "sliced_wasserstein",
    "wasserstein_1d",
]
