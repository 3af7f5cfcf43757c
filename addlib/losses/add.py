"""The distillation loss of ADD over the stages of a backbone: Le and Woo (AAAI 2022), eq. 10.

The paper writes ``alpha * L_FR + beta * L_MV`` for one pair of maps; the published code sums both terms over the four
stages of a ResNet, each stage with a weight of its own. The classification loss is not part of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from ._checks import check_number, received, source_of, untraced
from .frequency import FrequencyAttentionLoss
from .multiview import MultiViewAttentionLoss, Pairs, check_labels, choose_pairs, draw_scores
from .slices import random_directions

PUBLISHED_STAGE_WEIGHTS_FR = (0.0, 1.0, 2.0, 0.25)  # of ResNet-50, shallow to deep, in the published code
PUBLISHED_STAGE_WEIGHTS_MV = (0.0, 0.5, 2.5, 2.0)
Maps, Labels = Sequence[Tensor], Tensor | None
Draws = Sequence[tuple[Tensor, Pairs | None] | None] | None


class ADDTerms(NamedTuple):
    """The distillation loss and what it is made of."""

    total: Tensor  # alpha * frequency + beta * multi_view
    frequency: Tensor  # weighted sums over the stages
    multi_view: Tensor
    frequency_stages: Tensor  # (stages,), before weighting, without gradient, NaN where not computed: for logging
    multi_view_stages: Tensor


class ADDLoss(nn.Module):
    """Distillation loss of eq. 10 over several stages; a term whose weight is 0 is not computed.

    Args:
        stage_weights_fr, stage_weights_mv: weights of L_FR and L_MV, one for each stage, shallow to deep.
        alpha, beta: weights of L_FR and L_MV; 1, and 16 to 23 tuned on each data set, in the paper.
        gamma_fr, detach_weight: as :func:`frequency_attention_loss`.
        views, bins, gamma_mv, eta, margin, coordinates, variant: as :func:`multi_view_attention_loss`.
    """

    def __init__(
        self, stage_weights_fr: Sequence[float], stage_weights_mv: Sequence[float], alpha: float = 1.0, beta: float = 16.0, *,
        gamma_fr: float = 1.0, detach_weight: bool = True, views: int = 12, bins: int | None = None, gamma_mv: float = 100.0,
        eta: float = 50.0, margin: float = 0.012, coordinates: str = "index", variant: str = "paper",
    ):  # fmt: skip
        super().__init__()
        lists = all(isinstance(weights, list | tuple) for weights in (stage_weights_fr, stage_weights_mv))
        if not lists or not 0 < len(stage_weights_fr) == len(stage_weights_mv):
            raise ValueError(f"weights {stage_weights_fr} and {stage_weights_mv}, expected two lists, one of each for every stage")
        self.stage_weights_fr = tuple(check_number("a stage weight", weight) for weight in stage_weights_fr)
        self.stage_weights_mv = tuple(check_number("a stage weight", weight) for weight in stage_weights_mv)
        self.alpha, self.beta = check_number("alpha", alpha), check_number("beta", beta)
        self.frequency = FrequencyAttentionLoss(gamma_fr, detach_weight)
        self.multi_view = MultiViewAttentionLoss(views, bins, gamma_mv, eta, margin, coordinates, variant)

    def forward(self, student: Maps, teacher: Maps, labels: Labels, **drawn) -> Tensor:
        return self.terms(student, teacher, labels, **drawn).total

    @untraced
    def terms(
        self, student: Maps, teacher: Maps, labels: Labels, *, generator: Generator | None = None, draws: Draws = None
    ) -> ADDTerms:
        """Total loss and its terms for a map (B, C, H, W) of each stage, shallow to deep, and the classes (B,).

        ``generator`` is the source of directions and pairs, unless they are given as ``draws``, made by :meth:`draw`.
        """
        stages = len(self.stage_weights_fr)
        for name, maps in (("student", student), ("teacher", teacher)):
            if not isinstance(maps, list | tuple):
                raise ValueError(f"{name} is {received(maps)}, expected a list of maps, one for each stage")
        if len(student) != stages or len(teacher) != stages:
            counts = f"{len(student)} student and {len(teacher)} teacher stages"
            raise ValueError(f"{counts}, expected {stages} of each; give unused stages the weight 0")
        device = student[0].device
        draws = self.draw(labels, generator=generator, device=device) if draws is None else draws
        viewed, paired = [weight * self.beta > 0 for weight in self.stage_weights_mv], self.multi_view.settings["eta"] > 0
        if [drawn and drawn[1] is not None for drawn in draws] != [paired if wanted else None for wanted in viewed]:
            raise ValueError(f"draws are of a loss with other settings, expected those of draw() of this one, for stages {viewed}")
        frequency, multi_view = {}, {}
        for i in range(stages):
            try:
                if self.stage_weights_fr[i] * self.alpha:
                    frequency[i] = self.frequency(student[i], teacher[i])
                if self.stage_weights_mv[i] * self.beta:
                    directions, pairs = draws[i]
                    multi_view[i] = self.multi_view(student[i], teacher[i], labels, directions=directions, pairs=pairs)
            except ValueError as error:
                raise ValueError(f"stage {i} (counted from 0, shallow to deep): {error}") from error
        zero = torch.zeros((), device=device)
        sums, logged = [], []
        for values, weights in ((frequency, self.stage_weights_fr), (multi_view, self.stage_weights_mv)):
            sums.append(torch.stack([weights[i] * value for i, value in values.items()]).sum() if values else zero)
            logged.append(torch.stack([values.get(i, zero / 0) for i in range(stages)]).detach())
        return ADDTerms(self.alpha * sums[0] + self.beta * sums[1], *sums, *logged)

    def draw(
        self, labels: Labels, *, generator: Generator | None = None, device: torch.device | str | None = None
    ) -> Draws:
        """``(directions, pairs)`` for each stage with a multi-view term, sent to ``device`` (the labels') in one copy."""
        settings = self.multi_view.settings
        viewed = [weight * self.beta > 0 for weight in self.stage_weights_mv]
        labels = check_labels(labels) if settings["eta"] and any(viewed) else None
        shape = (settings["views"], 2) if settings["variant"] == "published" else ()
        source = source_of(generator)
        device = torch.device(device or (source if labels is None else labels.device))
        drawn = []
        for _ in range(sum(viewed)):
            drawn.append(random_directions(settings["views"], generator=generator, device=source))
            drawn += [] if labels is None else [draw_scores(len(labels), shape, generator)]
        if device != source and drawn:
            flat = torch.cat([tensor.flatten() for tensor in drawn])
            flat = (flat.pin_memory() if device.type == "cuda" else flat).to(device, non_blocking=True)
            parts = flat.split([tensor.numel() for tensor in drawn])
            drawn = [part.view_as(tensor) for part, tensor in zip(parts, drawn, strict=True)]
        sent = iter(drawn)
        if labels is None:
            return [(next(sent), None) if wanted else None for wanted in viewed]
        return [(next(sent), choose_pairs(labels.to(device), next(sent))) if wanted else None for wanted in viewed]
