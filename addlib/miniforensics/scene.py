"""Light, room and camera: a person, a pose and a background become a frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import CENTRE, FACE, SIZE, X, Y, band_noise, blur, rgb, tint, warp
from .features import draw_eyes, draw_mouth


def shade_face(person, pose):
    """Lit face with this pose's expression, without hair and ears, on the canonical crop ``FACE``; float32 (rows, columns, 3)."""
    skin = person.albedo[FACE].copy()
    draw_eyes(skin, person, pose)
    draw_mouth(skin, person, pose)
    nx, ny, nz = (component[FACE] for component in person.normal)
    lx, ly, lz = (np.float32(v) for v in pose.light)
    facing = nx * lx + ny * ly + nz * lz
    half = np.clip(facing * np.float32(0.6) + nz * np.float32(0.5), 0, None)
    gloss = half**2
    gloss = gloss**2 * gloss**2  # the eighth power; to the third once more below
    light = tint(np.float32(pose.ambient) + np.float32(pose.key) * np.clip(facing, 0, None), pose.tint)
    return skin * light + rgb(np.float32(0.8 * person.shape["gloss"]) * gloss * gloss * gloss)


def shade_head(person, pose):
    """Lit head with hair and ears, canonical; float32 (SIZE, SIZE, 4), the last channel its coverage."""
    total = np.float32(pose.ambient + 0.75 * pose.key)
    head, top = person.ear_colour * total, slice(0, FACE[0].start)
    # Above the crop only hair covers the skull: it keeps the skin's plain colour where strands let it through.
    for part, face in ((FACE, shade_face(person, pose)), (top, person.albedo[top] * total)):
        cover = rgb(person.face[part])
        head[part] = head[part] * (1 - cover) + face * cover
    cover = rgb(person.hair)
    head = head * (1 - cover) + person.hair_colour * total * cover
    return cv2.merge([*cv2.split(head), person.alpha])


def background(seed, number):
    """Room behind person ``number``: a gradient with boxes, out of focus, with texture; float32 (SIZE, SIZE, 3)."""
    rng = np.random.default_rng([seed, number, 4])
    first, second = (0.75 * rng.uniform(0.1, 0.85) + 0.25 * rng.uniform(0.1, 0.85, 3) for _ in range(2))
    ramp = 0.5 + 0.2 * (np.cos(rng.uniform(0, 6.3)) * X + np.sin(rng.uniform(0, 6.3)) * Y)[..., None]
    room = (first * (1 - ramp) + second * ramp).astype(np.float32)
    for _ in range(rng.integers(0, 14)):
        x, y = rng.integers(-20, SIZE, 2).tolist()
        width, height = rng.integers(8, 80, 2).tolist()
        colour = 0.65 * rng.uniform(0.05, 0.9) + 0.35 * rng.uniform(0.05, 0.9, 3)
        cv2.rectangle(room, (x, y), (x + width, y + height), colour.tolist(), -1)
    room = blur(room, rng.uniform(0.8, 6))
    return room * rgb(1 + 0.06 * band_noise(rng, 10, 40) + rng.uniform(0, 0.05) * band_noise(rng, 0.6, 2.5))


def compose(person, pose, room, maps):
    """The scene without camera: room, body, head; float32 (SIZE, SIZE, 3)."""
    left, top = (c * (1 - pose.scale) + 0.5 * moved for c, moved in zip(CENTRE, (pose.x, pose.y), strict=True))
    shift = np.array([[pose.scale, 0, left], [0, pose.scale, top]], np.float32)
    body = cv2.warpAffine(person.body, shift, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    *body, cover = cv2.split(body)
    light, cover = np.float32(pose.ambient + 0.6 * pose.key) * pose.tint, rgb(cover)
    body = cv2.merge([part * strength for part, strength in zip(body, light, strict=True)])
    frame = room * (1 - cover) + body * cover
    *head, cover = cv2.split(warp(shade_head(person, pose), maps))
    cover = rgb(np.clip(cover, 0, 1))
    return frame * (1 - cover) + cv2.merge(head) * cover


@dataclass(frozen=True)
class Camera:
    """A lens (Gaussian, sigma in pixels) and a sensor (noise of given standard deviation, growing with the root of the light)."""

    lens: float
    noise: float

    @classmethod
    def draw(cls, seed, number):
        rng = np.random.default_rng([seed, number, 5])
        return cls(rng.uniform(0.45, 0.75), rng.uniform(0.004, 0.014))

    def see(self, scene):
        """Through the lens, before the sensor."""
        return np.clip(blur(np.clip(scene, 0, 1), self.lens), 0, 1)

    def grain(self, seed, number, frame):
        """The sensor's noise of one frame at unit gain; (SIZE, SIZE, 3). Mostly luminance, a third as much colour."""
        rng = np.random.default_rng([seed, number, 6, frame])
        *colour, luminance = cv2.split(rng.standard_normal((SIZE, SIZE, 4), dtype=np.float32))
        return cv2.merge([(np.float32(0.35) * part + luminance) * np.float32(self.noise) for part in colour])

    @staticmethod
    def expose(image, grain):
        """Image plus noise as uint8."""
        noisy = image + grain * (np.float32(0.5) + np.float32(0.7) * np.sqrt(image))
        return (np.clip(noisy, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
