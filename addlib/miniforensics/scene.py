"""Light, room and camera: a person, a pose and a background become a frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import CENTRE, FACE, SIZE, X, Y, band_noise, blur, warp
from .features import draw_eyes, draw_mouth


def shade_face(person, pose, albedo=None, normal=None):
    """Lit face without hair and ears on the canonical crop ``FACE``; float32 (rows, columns, 3).

    albedo: (SIZE, SIZE, 3) with eyes and mouth already drawn; by default the person's own with this pose's expression.
    normal: three (SIZE, SIZE) arrays; by default the person's own.
    """
    if albedo is None:
        albedo = draw_expression(person, pose)
    nx, ny, nz = (component[FACE] for component in (normal or person.normal))
    lx, ly, lz = (np.float32(v) for v in pose.light)
    diffuse = np.clip(nx * lx + ny * ly + nz * lz, 0, None)
    half = np.clip((nx * lx + ny * ly + nz * lz) * np.float32(0.6) + nz * np.float32(0.5), 0, None)
    gloss = half**2
    gloss = gloss**2 * gloss**2  # the eighth power; squared once more below
    light = (np.float32(pose.ambient) + np.float32(pose.key) * diffuse)[..., None] * pose.tint
    return albedo[FACE] * light + (np.float32(0.8 * person.shape["gloss"]) * gloss * gloss * gloss)[..., None]


def draw_expression(person, pose):
    """The person's skin with eyes and mouth of this pose; (SIZE, SIZE, 3)."""
    skin = person.albedo.copy()
    draw_eyes(skin, person, pose)
    draw_mouth(skin, person, pose)
    return skin


def shade_head(person, pose):
    """Lit head with hair and ears, canonical; float32 (SIZE, SIZE, 4), the last channel its coverage."""
    total = np.float32(pose.ambient + 0.75 * pose.key)
    head = np.empty((SIZE, SIZE, 4), np.float32)
    rgb = head[..., :3]
    rgb[:] = person.ear_colour * total
    cover = person.face[FACE]
    rgb[FACE] = rgb[FACE] * (1 - cover) + shade_face(person, pose) * cover
    # Above the crop only hair covers the skull: it keeps the skin's plain colour where strands let it through.
    top = slice(0, FACE[0].start)
    rgb[top] = rgb[top] * (1 - person.face[top]) + person.albedo[top] * total * person.face[top]
    rgb[:] = rgb * (1 - person.hair) + person.hair_colour * total * person.hair
    head[..., 3] = person.alpha
    return head


def background(seed, number):
    """Room behind person ``number``: a gradient with boxes, out of focus, with texture; float32 (SIZE, SIZE, 3)."""
    rng = np.random.default_rng([seed, number, 4])
    first, second = (0.75 * rng.uniform(0.1, 0.85) + 0.25 * rng.uniform(0.1, 0.85, 3) for _ in range(2))
    ramp = 0.5 + 0.2 * (np.cos(rng.uniform(0, 6.3)) * X + np.sin(rng.uniform(0, 6.3)) * Y)[..., None]
    room = (first * (1 - ramp) + second * ramp).astype(np.float32)
    for _ in range(rng.integers(0, 14)):
        x, y = (int(v) for v in rng.integers(-20, SIZE, 2))
        width, height = (int(v) for v in rng.integers(8, 80, 2))
        colour = 0.65 * rng.uniform(0.05, 0.9) + 0.35 * rng.uniform(0.05, 0.9, 3)
        cv2.rectangle(room, (x, y), (x + width, y + height), [float(c) for c in colour], -1)
    room = blur(room, rng.uniform(0.8, 6))
    room *= (1 + 0.06 * band_noise(rng, 10, 40) + rng.uniform(0, 0.05) * band_noise(rng, 0.6, 2.5))[..., None]
    return room


def compose(person, pose, room, maps):
    """The scene without camera: room, body, head; float32 (SIZE, SIZE, 3)."""
    scale = pose.scale
    shift = np.array(
        [[scale, 0, CENTRE[0] * (1 - scale) + 0.5 * pose.x], [0, scale, CENTRE[1] * (1 - scale) + 0.5 * pose.y]],
        np.float32,
    )
    body = cv2.warpAffine(person.body, shift, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = body[..., 3:]
    frame = room * (1 - cover) + body[..., :3] * (np.float32(pose.ambient + 0.6 * pose.key) * pose.tint) * cover
    head = warp(shade_head(person, pose), maps)
    cover = np.clip(head[..., 3:], 0, 1)
    return frame * (1 - cover) + head[..., :3] * cover


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
        grain = rng.standard_normal((SIZE, SIZE, 4), dtype=np.float32)
        return (np.float32(0.35) * grain[..., :3] + grain[..., 3:]) * np.float32(self.noise)

    @staticmethod
    def expose(image, grain):
        """Image plus noise as uint8."""
        noisy = image + grain * (np.float32(0.5) + np.float32(0.7) * np.sqrt(image))
        return (np.clip(noisy, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
