"""Five manipulations, each an analogue of its namesake in FaceForensics++, and the traces that it leaves.

Each takes a target (whose video it is) and a source (whose face or expression is put in) and gives, for one frame, a patch of
new face and a mask of where it goes. What is honest about the analogy is the mechanism: where the pixels come from, what they
were resampled through, how they were blended, and how much of the camera's noise survives there, since a synthesised area has
never been in front of the sensor. What is not: nobody's network made them, and their strength is a choice (data/README.md).
"""

import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .canvas import FACE, SIZE, blur, rgb, warp
from .person import Person, blend_traits
from .scene import shade_face

BOX_MARGIN = 8  # pixels round the mask that are computed too, so that blurs see no edge


@dataclass(frozen=True)
class Shot:
    """What a manipulation is given of one frame: the target's clean view, its pose and maps, the source's pose, the lens."""

    real: np.ndarray
    pose: object
    maps: tuple
    source_pose: object
    lens: float


@dataclass(frozen=True)
class Forgery:
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


def fill_membrane(patch, reference, mask, sigma):
    """Add to the patch the smooth field that closes the gap to the reference along the mask's edge (Poisson-like, by blurs)."""
    edge = np.clip(4 * mask, 0, 1) * (1 - mask) + 1e-4
    gap = blur((reference - patch) * rgb(edge), sigma)
    return patch + gap / rgb(blur(edge, sigma))


def through_resolution(patch, width, height, up=cv2.INTER_CUBIC):
    """Down to (width, height) pixels and up again, as through a network of that output size."""
    small = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, patch.shape[1::-1], interpolation=up)


_TWO = np.tile(np.array([1, -1], np.float32), SIZE // 2)
_FOUR = np.tile(np.array([1, 1, -1, -1], np.float32), SIZE // 4)


def overlap_grid(box, two, four):
    """Gain of uneven transposed-convolution overlap: periods of 2 and 4 pixels with amplitudes ``two`` and ``four``; (h, w)."""
    left, top, right, bottom = box
    x = (1 + two * _TWO[left:right]) * (1 + four * _FOUR[left:right])
    y = (1 + two * _TWO[top:bottom]) * (1 + four * _FOUR[top:bottom])
    return y[:, None] * x[None, :]


class Manipulation:
    """State of one manipulated video. ``noise_kept`` is the share of the sensor's noise that is left under the mask."""

    noise_kept = 1.0

    def __init__(self, target, source, rng):
        self.target, self.source, self.rng = target, source, rng
        self.strength = np.float32(rng.uniform(0.7, 1.0))

    def forge(self, shot):
        """The forgery of one frame, or None where the face is out of sight."""
        raise NotImplementedError

    def _face(self, shot, person=None):
        """Box and mask of the part of the face that both people have, in the target's pose."""
        inner = self.target.inner if person is None else np.minimum(self.target.inner, person.inner)
        mask = warp(inner, shot.maps, cv2.INTER_LINEAR)
        box = mask_box(mask)
        return (None, None) if box is None else (box, _cut(mask, box))


class Deepfakes(Manipulation):
    """Autoencoder swap: the source's face in the target's pose, expression and light, through a 64-pixel output, soft mask."""

    noise_kept = 0.7
    resolution = 64

    def forge(self, shot):
        box, mask = self._face(shot, self.source)
        if box is None:
            return None
        patch = _render(shade_face(self.source, shot.pose), self.source.turn(shot.pose, box))
        patch = match_colour(blur(patch, shot.lens), _cut(shot.real, box), mask, 1.0)
        patch = through_resolution(patch, self.resolution, self.resolution)
        return Forgery(box, patch, np.clip(1.6 * blur(mask, 4) - 0.6, 0, 1))


class Face2Face(Manipulation):
    """Re-enactment: the target's own tracked texture, averaged over time and so softened, with the source's mouth."""

    noise_kept = 0.5
    softening = 1.1  # sigma in pixels, of the texture
    coarseness = 1.9  # sigma in pixels, of the model's surface

    def __init__(self, target, source, rng):
        super().__init__(target, source, rng)
        self.model = copy.copy(target)
        self.model.albedo = blur(target.albedo, self.softening)
        self.model.normal = tuple(blur(component, self.coarseness) for component in target.normal)

    def forge(self, shot):
        box, mask = self._face(shot)
        if box is None:
            return None
        pose = replace(shot.pose, mouth_open=shot.source_pose.mouth_open, smile=shot.source_pose.smile)
        patch = blur(_render(shade_face(self.model, pose), self.target.turn(pose, box), cv2.INTER_LINEAR), shot.lens)
        return Forgery(box, match_colour(patch, _cut(shot.real, box), mask, 0.7), mask)


class FaceSwap(Manipulation):
    """Graphics swap: the source's face kept as one texture of limited size, warped by jittering landmarks, narrow seam.

    The texture is taken once, with the source's expression of that moment, and sampled twice with linear interpolation, into
    the texture and out of it: that, the seam and the lost noise are its high-frequency traces.
    """

    noise_kept = 0.5
    texture_scale = 0.6
    jitter = 0.25  # pixels
    seam = 2.8  # sigma in pixels

    def __init__(self, target, source, rng):
        super().__init__(target, source, rng)
        self.texture = None

    def forge(self, shot):
        box, mask = self._face(shot, self.source)
        if box is None:
            return None
        if self.texture is None:
            light = (0.95 * shot.pose.light + 0.05 * shot.source_pose.light).astype(np.float32)
            lamps = {"light": light, "key": shot.pose.key, "ambient": shot.pose.ambient, "tint": shot.pose.tint}
            face = shade_face(self.source, replace(shot.source_pose, **lamps))
            height, width = (round(side * self.texture_scale) for side in face.shape[:2])
            small = cv2.resize(face, (width, height), interpolation=cv2.INTER_LINEAR)
            self.texture = cv2.resize(small, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        dx, dy, turn = self.rng.normal(0, [self.jitter, self.jitter, 0.003])
        pose = replace(shot.pose, x=shot.pose.x + dx, y=shot.pose.y + dy, roll=shot.pose.roll + turn)
        patch = blur(_render(self.texture, self.source.turn(pose, box), cv2.INTER_LINEAR), shot.lens)
        patch = match_colour(patch, _cut(shot.real, box), mask, 1.0)
        return Forgery(box, patch, np.clip(blur((mask > 0.5).astype(np.float32), self.seam), 0, 1))


class FaceShifter(Manipulation):
    """One-network swap: identity mixed with the target's shape, blended without a seam, fine detail lost, spectrum altered."""

    noise_kept = 0.25
    detail = 0.42  # share of detail finer than one pixel of blur that is left
    two, four = 0.035, 0.010  # amplitudes of the pattern at periods of 2 and 4 pixels

    def __init__(self, target, source, rng):
        super().__init__(target, source, rng)
        self.source = Person(blend_traits(source.traits, target.traits), face_only=True)

    def forge(self, shot):
        box, mask = self._face(shot, self.source)
        if box is None:
            return None
        patch = blur(_render(shade_face(self.source, shot.pose), self.source.turn(shot.pose, box)), shot.lens)
        real = _cut(shot.real, box)
        patch = fill_membrane(match_colour(patch, real, mask, 0.8), real, mask, 12)
        smooth = blur(patch, 1.0)
        patch = smooth + self.detail * (patch - smooth)
        return Forgery(box, patch * rgb(overlap_grid(box, self.strength * self.two, self.strength * self.four)), mask)


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
        left, top, right, bottom = mask_box(warp(self.target.face, shot.maps, cv2.INTER_LINEAR)) or (0, 0, 0, 0)
        if right <= left:
            return None
        maps = self.target.turn(pose, (left, top, right, bottom))
        mask = cv2.remap(self.target.mouth, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        inner = mask_box(mask)
        if inner is None:
            return None
        maps = tuple(np.ascontiguousarray(_cut(m, inner)) for m in maps)
        box = (left + inner[0], top + inner[1], left + inner[2], top + inner[3])
        patch = blur(_render(shade_face(self.target, pose), maps), shot.lens)
        patch = cv2.merge([part * gain for part, gain in zip(cv2.split(patch), self.gain, strict=True)])
        patch = through_resolution(patch, patch.shape[1] // 2, patch.shape[0] // 2, cv2.INTER_LINEAR)
        patch = patch * rgb(overlap_grid(box, self.strength * self.two, self.strength * self.four))
        return Forgery(box, patch, np.ascontiguousarray(_cut(mask, inner)))


MANIPULATIONS = {kind.__name__: kind for kind in (Deepfakes, Face2Face, FaceSwap, FaceShifter, NeuralTextures)}


def apply(forgery, frame, real, grain, noise_kept, expose):
    """The manipulated frame as uint8: blend the patch in, and expose it with what is left of the noise under the mask.

    frame: the real view exposed with all the noise; outside the forgery's box the result is, to the bit, the same.
    """
    frame = frame.copy()
    if forgery is None:
        return frame
    mask = rgb(forgery.mask)
    blended = np.clip(_cut(real, forgery.box) * (1 - mask) + forgery.patch * mask, 0, 1)
    noise = _cut(grain, forgery.box) * (1 - mask * np.float32(1 - noise_kept))
    _cut(frame, forgery.box)[:] = expose(blended, noise)
    return frame
