"""Five manipulations, each an analogue of its namesake in FaceForensics++, and the traces that it leaves.

Each takes a target (whose video it is) and a source (whose face or expression is put in) and gives, for one frame, a patch of
new face and a mask of where it goes. What is honest about the analogy is the mechanism: where the pixels come from, what they
were resampled through, how they were blended, and how much of the camera's noise survives there, since a synthesised area has
never been in front of the sensor. What is not: nobody's network made them, and their strength is a choice (data/README.md).
"""

import copy
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from .canvas import FACE, SIZE, blur, rgb, warp
from .motion import Pose
from .person import Person, blend_traits
from .scene import Camera, shade_face

BOX_MARGIN = 8  # pixels round the mask that are computed too, so that blurs see no edge


class Shot(NamedTuple):
    """What a manipulation is given of one frame: the target's clean view, its pose and maps, the source's pose, the lens."""

    real: np.ndarray
    pose: Pose
    maps: tuple
    source_pose: Pose
    lens: float


class Forgery(NamedTuple):
    """What it gives back: box (left, top, right, bottom), patch (h, w, 3), mask (h, w) in 0…1."""

    box: tuple
    patch: np.ndarray
    mask: np.ndarray


def mask_box(mask):
    """(left, top, right, bottom) of the mask's support with a margin, clipped to the array; None if it is empty."""
    x, y, width, height = cv2.boundingRect((mask > 0.02).astype(np.uint8))
    if width == 0:
        return None
    right, bottom = min(mask.shape[1], x + width + BOX_MARGIN), min(mask.shape[0], y + height + BOX_MARGIN)
    return max(0, x - BOX_MARGIN), max(0, y - BOX_MARGIN), right, bottom


def _cut(array, box):
    left, top, right, bottom = box
    return array[top:bottom, left:right]


def _render(texture, maps, interpolation=cv2.INTER_CUBIC):
    """Sample a texture that lives on the canonical crop FACE."""
    x, y = maps[0] - np.float32(FACE[1].start), maps[1] - np.float32(FACE[0].start)
    return cv2.remap(texture, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)


def match_colour(patch, reference, mask, strength):
    """Move the patch's mean and spread under the mask towards the reference's, each channel on its own."""
    weight = mask / (mask.sum() + 1e-6)

    def total(values):
        return np.add.accumulate((values * weight).ravel())[-1]  # one after the other, as bits depend on the order

    def matched(part, goal):
        mean, mean_goal = total(part), total(goal)
        spread, spread_goal = np.sqrt(total((part - mean) ** 2)), np.sqrt(total((goal - mean_goal) ** 2))
        gain = np.clip(spread_goal / (spread + 1e-6), 0.7, 1.4)
        return part + strength * ((part - mean) * gain + mean_goal - part)

    return cv2.merge([matched(*parts) for parts in zip(cv2.split(patch), cv2.split(reference), strict=True)])


def through_resolution(patch, width, height, down=cv2.INTER_AREA, up=cv2.INTER_CUBIC):
    """Down to (width, height) pixels and up again, as through a network of that output size."""
    return cv2.resize(cv2.resize(patch, (width, height), interpolation=down), patch.shape[1::-1], interpolation=up)


_TWO = np.tile(np.array([1, -1], np.float32), SIZE // 2)
_FOUR = np.tile(np.array([1, 1, -1, -1], np.float32), SIZE // 4)


def overlap_grid(box, two, four):
    """Gain of uneven transposed-convolution overlap: periods of 2 and 4 pixels with amplitudes ``two`` and ``four``; (h, w)."""
    left, top, right, bottom = box
    gain = (1 + two * _TWO) * (1 + four * _FOUR)
    return gain[top:bottom, None] * gain[left:right]


class Manipulation:
    """State of one manipulated video. ``noise_kept`` is the share of the sensor's noise that is left under the mask."""

    noise_kept = 1.0

    def __init__(self, target, source, rng):
        self.target, self.source, self.rng = target, source, rng
        self.strength = np.float32(rng.uniform(0.7, 1.0))

    def forge(self, shot):
        """The forgery of one frame, or None where the face is out of sight."""
        # The part of the face that both people have, in the target's pose.
        mask = warp(np.minimum(self.target.inner, self.source.inner), shot.maps, cv2.INTER_LINEAR)
        box = mask_box(mask)
        return None if box is None else Forgery(box, *self.paint(shot, box, _cut(mask, box)))

    def paint(self, shot, box, mask):
        """Patch and mask of a forgery in a box."""
        raise NotImplementedError

    def apply(self, shot, frame, grain):
        """The manipulated frame as uint8: the patch blended in, and exposed with what is left of the noise under the mask.

        frame: the real view exposed with all the noise; outside the forgery's box the result is, to the bit, the same.
        """
        frame, forgery = frame.copy(), self.forge(shot)
        if forgery is not None:
            mask = rgb(forgery.mask)
            blended = np.clip(_cut(shot.real, forgery.box) * (1 - mask) + forgery.patch * mask, 0, 1)
            noise = _cut(grain, forgery.box) * (1 - mask * np.float32(1 - self.noise_kept))
            _cut(frame, forgery.box)[:] = Camera.expose(blended, noise)
        return frame

    def grid(self, box):
        """Gain of the faint pattern that its network leaves, (h, w, 3)."""
        return rgb(overlap_grid(box, self.strength * self.two, self.strength * self.four))


class Deepfakes(Manipulation):
    """Autoencoder swap: the source's face in the target's pose, expression and light, through a 64-pixel output, soft mask."""

    noise_kept = 0.7
    resolution = 64

    def paint(self, shot, box, mask):
        patch = _render(shade_face(self.source, shot.pose), self.source.turn(shot.pose, box))
        patch = match_colour(blur(patch, shot.lens), _cut(shot.real, box), mask, 1.0)
        return through_resolution(patch, self.resolution, self.resolution), np.clip(1.6 * blur(mask, 4) - 0.6, 0, 1)


class Face2Face(Manipulation):
    """Re-enactment: the target's own tracked texture, averaged over time and so softened, with the source's mouth."""

    noise_kept = 0.5
    softening = 1.1  # sigma in pixels, of the texture
    coarseness = 1.9  # sigma in pixels, of the model's surface

    def __init__(self, target, source, rng):
        super().__init__(target, target, rng)
        self.model = copy.copy(target)
        self.model.albedo = blur(target.albedo, self.softening)
        self.model.normal = tuple(blur(component, self.coarseness) for component in target.normal)

    def paint(self, shot, box, mask):
        pose = replace(shot.pose, mouth_open=shot.source_pose.mouth_open, smile=shot.source_pose.smile)
        patch = blur(_render(shade_face(self.model, pose), self.target.turn(pose, box), cv2.INTER_LINEAR), shot.lens)
        return match_colour(patch, _cut(shot.real, box), mask, 0.7), mask


class FaceSwap(Manipulation):
    """Graphics swap: the source's face kept as one texture of limited size, warped by jittering landmarks, narrow seam.

    The texture is taken once, with the source's expression of that moment, and sampled twice with linear interpolation, into
    the texture and out of it: that, the seam and the lost noise are its high-frequency traces.
    """

    noise_kept = 0.5
    texture_scale = 0.6
    jitter = 0.25  # pixels
    seam = 2.8  # sigma in pixels
    texture = None

    def paint(self, shot, box, mask):
        if self.texture is None:
            light = (0.95 * shot.pose.light + 0.05 * shot.source_pose.light).astype(np.float32)
            lamps = {"light": light, "key": shot.pose.key, "ambient": shot.pose.ambient, "tint": shot.pose.tint}
            face = shade_face(self.source, replace(shot.source_pose, **lamps))
            height, width = (round(side * self.texture_scale) for side in face.shape[:2])
            self.texture = through_resolution(face, width, height, cv2.INTER_LINEAR, cv2.INTER_LINEAR)
        dx, dy, turn = self.rng.normal(0, [self.jitter, self.jitter, 0.003])
        pose = replace(shot.pose, x=shot.pose.x + dx, y=shot.pose.y + dy, roll=shot.pose.roll + turn)
        patch = blur(_render(self.texture, self.source.turn(pose, box), cv2.INTER_LINEAR), shot.lens)
        patch = match_colour(patch, _cut(shot.real, box), mask, 1.0)
        return patch, np.clip(blur((mask > 0.5).astype(np.float32), self.seam), 0, 1)


class FaceShifter(Manipulation):
    """One-network swap: identity mixed with the target's shape, blended without a seam, fine detail lost, spectrum altered."""

    noise_kept = 0.25
    detail = 0.42  # share of detail finer than one pixel of blur that is left
    two, four = 0.035, 0.010  # amplitudes of the pattern at periods of 2 and 4 pixels
    fade = 12  # sigma in pixels, of the field that hides the seam

    def __init__(self, target, source, rng):
        super().__init__(target, Person(blend_traits(source.traits, target.traits), face_only=True), rng)

    def paint(self, shot, box, mask):
        patch = blur(_render(shade_face(self.source, shot.pose), self.source.turn(shot.pose, box)), shot.lens)
        real = _cut(shot.real, box)
        patch = match_colour(patch, real, mask, 0.8)
        # Poisson-like, by blurs: add the smooth field that closes the gap to the real view along the mask's edge.
        edge = np.clip(4 * mask, 0, 1) * (1 - mask) + 1e-4
        patch = patch + blur((real - patch) * rgb(edge), self.fade) / rgb(blur(edge, self.fade))
        smooth = blur(patch, 1.0)
        return (smooth + self.detail * (patch - smooth)) * self.grid(box), mask


class NeuralTextures(Manipulation):
    """Neural re-rendering of the mouth: the source's expression at half resolution, with the faint grid of a transposed
    convolution and colours that are a little off, on average to the warm side."""

    noise_kept = 0.2
    two, four = 0.05, 0.018  # amplitudes of the grid at periods of 2 and 4 pixels
    warmth = (0.03, -0.01, -0.02)  # mean error of red, green and blue
    colour_shift = 0.02  # standard deviation about it

    def __init__(self, target, source, rng):
        super().__init__(target, source, rng)
        self.gain = (1 + np.array(self.warmth) + rng.normal(0, self.colour_shift, 3)).astype(np.float32)

    def forge(self, shot):
        pose = replace(shot.pose, mouth_open=shot.source_pose.mouth_open, smile=shot.source_pose.smile)
        face = mask_box(warp(self.target.face, shot.maps, cv2.INTER_LINEAR))
        if face is None:
            return None
        maps = self.target.turn(pose, face)
        mask = cv2.remap(self.target.mouth, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        inner = mask_box(mask)
        if inner is None:
            return None
        maps = tuple(np.ascontiguousarray(_cut(m, inner)) for m in maps)
        box = tuple(edge + face[axis % 2] for axis, edge in enumerate(inner))
        patch = blur(_render(shade_face(self.target, pose), maps), shot.lens)
        patch = cv2.merge([part * gain for part, gain in zip(cv2.split(patch), self.gain, strict=True)])
        patch = through_resolution(patch, patch.shape[1] // 2, patch.shape[0] // 2, up=cv2.INTER_LINEAR)
        return Forgery(box, patch * self.grid(box), np.ascontiguousarray(_cut(mask, inner)))


MANIPULATIONS = {kind.__name__: kind for kind in (Deepfakes, Face2Face, FaceSwap, FaceShifter, NeuralTextures)}
