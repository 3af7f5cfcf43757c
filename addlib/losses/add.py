"""The distillation loss of ADD: frequency and multi-view attention over the stages of a backbone, eq. 10.

Le and Woo, "ADD" (AAAI 2022). The paper writes the sum for one pair of maps,

    loss = alpha * L_FR + beta * L_MV

and the published code sums both terms over the four stages of a ResNet, each stage with a weight of its own. The
classification loss is not part of it: add it in the training loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from addlib.losses._checks import check_number, check_pair, untraced
from addlib.losses.frequency import FrequencyAttentionLoss
from addlib.losses.multiview import (
    MultiViewAttentionLoss,
    Pairs,
    check_labels,
    choose_pairs,
    draw_scores,
    pairs_shape,
)
from addlib.losses.slices import random_directions

# Weights of the stages of ResNet-50, shallow to deep, in the published code.
PUBLISHED_STAGE_WEIGHTS_FR = (0.0, 1.0, 2.0, 0.25)
PUBLISHED_STAGE_WEIGHTS_MV = (0.0, 0.5, 2.5, 2.0)


class ADDTerms(NamedTuple):
    """The distillation loss and what it is made of.

    ``total`` = alpha * ``frequency`` + beta * ``multi_view``, and these are the weighted sums of the stages. The last
    two hold the terms of every stage before weighting, (stages,), without gradient, NaN where a term was not computed
    because its weight is 0: for logging.
    """

    total: Tensor
    frequency: Tensor
    multi_view: Tensor
    frequency_stages: Tensor
    multi_view_stages: Tensor


class ADDLoss(nn.Module):
    """Distillation loss of eq. 10 over several stages.

    Args:
        stage_weights_fr, stage_weights_mv: one non-negative weight for each stage, shallow to deep, for L_FR and
            L_MV. ``PUBLISHED_STAGE_WEIGHTS_FR`` and ``PUBLISHED_STAGE_WEIGHTS_MV`` are those of the published code.
        alpha, beta: weights of L_FR and L_MV; 1, and 16 to 23 tuned on each data set, in the paper. Plain attributes:
            set ``alpha`` to 0 to switch the frequency term off, as the published code does in its first epochs.
        gamma_fr, detach_weight: gamma and detach_weight of :func:`addlib.losses.frequency_attention_loss`.
        views, bins, gamma_mv, eta, margin, coordinates, variant: as
            :func:`addlib.losses.multi_view_attention_loss`. Directions and pairs are drawn anew for every stage.

    A term whose weight is 0 is not computed. Value and gradient are finite for every finite input, but the gradient of
    a float16 map: each term saturates for itself, their weighted sum may overflow to infinity, which GradScaler sees.

    Raises:
        ValueError: the two lists differ in length or are empty, a weight is negative or not finite.
    """

    def __init__(
        self,
        stage_weights_fr: Sequence[float],
        stage_weights_mv: Sequence[float],
        alpha: float = 1.0,
        beta: float = 16.0,
        *,
        gamma_fr: float = 1.0,
        detach_weight: bool = True,
        views: int = 12,
        bins: int | None = None,
        gamma_mv: float = 100.0,
        eta: float = 50.0,
        margin: float = 0.012,
        coordinates: str = "index",
        variant: str = "paper",
    ) -> None:
        super().__init__()
        if len(stage_weights_fr) != len(stage_weights_mv) or not len(stage_weights_fr):
            raise ValueError(
                f"{len(stage_weights_fr)} stage weights for frequency and {len(stage_weights_mv)} for multi-view "
                "attention, expected the same number, at least 1; give a stage without a term the weight 0"
            )
        self.stage_weights_fr = tuple(check_number("a stage weight", weight) for weight in stage_weights_fr)
        self.stage_weights_mv = tuple(check_number("a stage weight", weight) for weight in stage_weights_mv)
        self.alpha = check_number("alpha", alpha)
        self.beta = check_number("beta", beta)
        self.frequency = FrequencyAttentionLoss(check_number("gamma_fr", gamma_fr), detach_weight)
        self.multi_view = MultiViewAttentionLoss(views, bins, gamma_mv, eta, margin, coordinates, variant)

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        labels: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        draws: Sequence[tuple[Tensor, Pairs | None] | None] | None = None,
    ) -> Tensor:
        """Total loss, a scalar; arguments as :meth:`terms`."""
        return self.terms(student, teacher, labels, generator=generator, draws=draws).total

    @untraced
    def terms(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        labels: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        draws: Sequence[tuple[Tensor, Pairs | None] | None] | None = None,
    ) -> ADDTerms:
        """Total loss and its terms, computed once.

        Args:
            student, teacher: as many maps (B, C, H, W) as there are stage weights, shallow to deep. The teacher
                receives no gradient.
            labels: (B,) or (B, 1), class of every image; None if ``eta`` is 0 or ``draws`` are given.
            generator: source of directions and pairs, torch's global CPU generator if None.
            draws: directions and pairs made by :meth:`draw`; drawn anew if None. Give them where the loss is computed
                inside a checkpoint: only torch's global generator is set back before the second computation.

        Raises:
            ValueError: the number of stages is wrong, or the maps of a stage do not fit; the message names the stage.
        """
        stages = len(self.stage_weights_fr)
        if len(student) != stages or len(teacher) != stages:
            raise ValueError(
                f"{len(student)} student and {len(teacher)} teacher stages, expected {stages} of each, one for each "
                "stage weight; give unused stages the weight 0"
            )
        frequency: list[Tensor | None] = [None] * stages
        multi_view: list[Tensor | None] = [None] * stages
        for i, weight in enumerate(self.stage_weights_fr):
            if weight * self.alpha:
                with _naming(i):
                    frequency[i] = self.frequency(student[i], teacher[i])
        for i, weight in enumerate(self.stage_weights_mv):
            if weight * self.beta:
                with _naming(i):
                    check_pair(student[i], teacher[i])
                    draws = draws or self.draw(labels, generator=generator, device=student[i].device)
                    directions, pairs = draws[i]
                    multi_view[i] = self.multi_view(student[i], teacher[i], labels, directions=directions, pairs=pairs)
        weights = self.stage_weights_fr, self.stage_weights_mv
        sums = [_weighted_sum(*terms, student[0]) for terms in zip((frequency, multi_view), weights, strict=True)]
        missing = torch.full((), float("nan"), device=student[0].device)
        logged = [
            torch.stack([missing if value is None else value.detach() for value in values])
            for values in (frequency, multi_view)
        ]
        return ADDTerms(self.alpha * sums[0] + self.beta * sums[1], *sums, *logged)

    def draw(
        self,
        labels: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> list[tuple[Tensor, Pairs | None] | None]:
        """Directions and pairs of one step, for all stages, sent to the device in one copy.

        Args:
            labels: (B,) or (B, 1), class of every image; None if ``eta`` is 0.
            generator: source of randomness; torch's global CPU generator if None.
            device: of the maps; that of ``labels`` if None.

        Returns:
            For every stage ``(directions, pairs)``, or None where its multi-view term has the weight 0.
        """
        settings = self.multi_view.settings
        views, shape = settings["views"], pairs_shape(settings["variant"], settings["views"])
        labels = check_labels(labels) if settings["eta"] else None
        source = generator.device if generator is not None else torch.device("cpu")
        viewed = [weight * self.beta > 0 for weight in self.stage_weights_mv]
        drawn: list[Tensor] = []
        for _ in range(sum(viewed)):
            drawn.append(random_directions(views, generator=generator, device=source))
            if labels is not None:
                drawn += draw_scores(len(labels), shape, generator)
        device = torch.device(device or (source if labels is None else labels.device))
        if device != source and drawn:
            flat = torch.cat([tensor.flatten() for tensor in drawn])
            flat = (flat.pin_memory() if device.type == "cuda" else flat).to(device, non_blocking=True)
            parts = flat.split([tensor.numel() for tensor in drawn])
            drawn = [part.view_as(tensor) for part, tensor in zip(parts, drawn, strict=True)]
        sent = iter(drawn)
        if labels is None:
            return [(next(sent), None) if wanted else None for wanted in viewed]
        labels = labels.to(device)
        return [(next(sent), choose_pairs(labels, next(sent), next(sent))) if wanted else None for wanted in viewed]

    def extra_repr(self) -> str:
        return (
            f"stage_weights_fr={self.stage_weights_fr}, stage_weights_mv={self.stage_weights_mv}, "
            f"alpha={self.alpha:g}, beta={self.beta:g}"
        )


@contextmanager
def _naming(stage: int) -> Iterator[None]:
    """Errors name the stage."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"stage {stage} (counted from 0, shallow to deep): {error}") from error


def _weighted_sum(values: list[Tensor | None], weights: tuple[float, ...], like: Tensor) -> Tensor:
    terms = [weight * value for weight, value in zip(weights, values, strict=True) if value is not None]
    return torch.stack(terms).sum() if terms else torch.zeros((), device=like.device)
