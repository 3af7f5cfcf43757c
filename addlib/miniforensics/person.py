"""One drawn person: shape, skin, hair and clothes as canonical layers, lit and posed later.

Every person is drawn from numbers: thirty-odd continuous traits and a few palettes. No photograph and no measurement of a
real face is used.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .canvas import CENTRE, PIXEL_Y, SIZE, UNIT, X, Y, band_noise, blur, bump, pixel, rgb, smoothstep, tint

# Ranges from which each trait is drawn uniformly; lengths in head units.
TRAITS = {
    "jaw_taper": (0.10, 0.34), "width": (0.90, 1.05), "chin": (1.42, 1.60), "eye_x": (0.40, 0.49), "eye_width": (0.18, 0.23),
    "eye_height": (0.065, 0.095), "eye_tilt": (-0.16, 0.16), "brow_y": (-0.36, -0.26), "brow_width": (0.24, 0.31),
    "brow_thickness": (0.030, 0.062), "brow_arch": (-0.02, 0.08), "brow_density": (0.55, 0.95), "nose_length": (0.58, 0.72),
    "nose_width": (0.15, 0.24), "nose_height": (0.20, 0.38), "mouth_y": (0.94, 1.06), "mouth_width": (0.30, 0.43),
    "upper_lip": (0.05, 0.095), "lower_lip": (0.07, 0.13), "lip_red": (0.10, 0.50), "hairline": (-1.05, -0.62),
    "fringe": (-0.35, 0.35), "parting": (-0.55, 0.55), "cheek": (0.02, 0.12), "pores": (0.020, 0.050), "freckles": (0.0, 1.0),
    "wrinkles": (0.0, 0.05), "stubble": (0.0, 1.0), "gloss": (0.01, 0.05), "age": (0.0, 1.0),
}  # fmt: skip
SKIN = np.array(
    [[0.93, 0.76, 0.67], [0.85, 0.65, 0.53], [0.70, 0.50, 0.38], [0.50, 0.33, 0.24], [0.33, 0.21, 0.16]], np.float32
)
HAIR = np.array([
    [0.06, 0.05, 0.05], [0.16, 0.10, 0.07], [0.30, 0.19, 0.11], [0.55, 0.40, 0.22], [0.48, 0.22, 0.10], [0.55, 0.54, 0.53],
], np.float32)  # fmt: skip
IRIS = np.array([[0.20, 0.12, 0.07], [0.35, 0.24, 0.12], [0.25, 0.38, 0.45], [0.32, 0.40, 0.28]], np.float32)


@dataclass(frozen=True)
class Traits:
    """What a person looks like: numbers only. ``key`` seeds the textures (skin, hair, cloth)."""

    key: tuple[int, int]
    shape: dict
    tone: float
    hair: np.ndarray
    iris: np.ndarray
    shirt: np.ndarray
    long_hair: bool


def draw_traits(seed, number):
    """The traits of person ``number`` of the data set made from ``seed``."""
    rng = np.random.default_rng([seed, number, 1])
    shape = {name: rng.uniform(*bounds) for name, bounds in TRAITS.items()}
    tone = rng.uniform(0, 1) ** 1.2
    hair = HAIR[rng.integers(len(HAIR))] * rng.uniform(0.8, 1.2) * (1 - 0.55 * max(0.0, tone - 0.4))
    iris = IRIS[rng.integers(len(IRIS))]
    shirt = rng.uniform(0.1, 0.85, 3).astype(np.float32)
    return Traits((seed, number), shape, tone, hair, iris, shirt, bool(rng.random() < 0.4))


def blend_traits(source, target, shape=0.7, tone=0.5):
    """Traits between two people: ``shape`` and ``tone`` are the source's share; textures and colours are the source's."""
    mixed = {name: shape * source.shape[name] + (1 - shape) * target.shape[name] for name in source.shape}
    return replace(source, shape=mixed, tone=tone * source.tone + (1 - tone) * target.tone)


def _skin_colour(tone, rng):
    position = np.clip(tone, 0, 1) * (len(SKIN) - 1)
    low = min(int(position), len(SKIN) - 2)
    colour = SKIN[low] + (position - low) * (SKIN[low + 1] - SKIN[low])
    return np.clip(colour * (1 + rng.normal(0, 0.02, 3)), 0, 1).astype(np.float32)


class Person:
    """The canonical layers of one person, all of side ``SIZE``, seen from the front.

    face_only: leave out what no manipulation takes over: colours of hair and ears, and the body.

    albedo (SIZE, SIZE, 3): skin with brows, shadows of shape, freckles, stubble; eyes and mouth are added per frame.
    normal: three (SIZE, SIZE) arrays, the unit surface normal with pores and wrinkles.
    depth (SIZE, SIZE): smooth height in head units, for turning the head.
    face, hair, alpha: coverages; inner, mouth: the regions that a manipulation replaces.
    body (SIZE, SIZE, 4): neck, clothes, long hair, with coverage.
    """

    def __init__(self, traits, face_only=False):
        self.traits, self.shape = traits, traits.shape
        s, rng = traits.shape, np.random.default_rng([*traits.key, 2])
        self.skin = _skin_colour(traits.tone, rng)
        half_width = s["width"] * (1 - s["jaw_taper"] * smoothstep(0.1, 1.5, Y))
        height = np.where(Y > 0, s["chin"], 1.5).astype(np.float32)
        self.radius = (np.abs(X / half_width) ** 2.3 + np.abs(Y / height) ** 2.3).astype(np.float32)
        self.face = (1 - smoothstep(0.97, 1.03, self.radius)).astype(np.float32)
        nose = self._relief(rng)
        self.albedo = self._paint_skin(rng)
        wavy = self._grow_hair(rng)
        if not face_only:
            self._paint_hair_and_ears(rng, wavy)
            self._paint_body(rng)
        bare = 1 - np.clip(2.2 * blur(np.clip(1.5 * self.hair, 0, 1), 4), 0, 1)
        self.inner = ((1 - smoothstep(0.62, 0.80, self.radius)) * smoothstep(-0.72, -0.48, Y) * bare).astype(np.float32)
        around = np.sqrt(bump(0, s["mouth_y"] + 0.08, 1.35 * s["mouth_width"], 0.36))
        self.mouth = smoothstep(0.35, 0.75, around).astype(np.float32)
        skull = 0.95 * np.sqrt(np.clip(1.35 - np.abs(X / 1.1) ** 2 - np.abs(Y / 1.7) ** 2, 0, 1.5))
        self.depth = blur((skull + 0.7 * nose).astype(np.float32), 3)

    def _relief(self, rng):
        """The surface and what hangs on it; returns the nose."""
        s, end = self.shape, self.shape["nose_length"]
        bridge = smoothstep(-0.25, end - 0.1, Y) * (1 - smoothstep(end - 0.06, end + 0.10, Y))
        spread = s["nose_width"] * (0.55 + 0.45 * smoothstep(0.1, 0.6, Y))
        nose = s["nose_height"] * bridge * np.exp(-((X / spread) ** 2))
        height = 0.95 * np.sqrt(np.clip(1.02 - self.radius, 0, 1))
        for side in (-1, 1):
            eye = side * s["eye_x"]
            nose = nose + 0.09 * bump(side * s["nose_width"] * 1.05, s["nose_length"] - 0.04, 0.085, 0.085)
            height += 0.07 * bump(eye, 0, 0.17, 0.09) - 0.12 * bump(eye, -0.02, 0.27, 0.15)
            cheek = s["cheek"] * bump(side * 0.55, 0.42, 0.28, 0.25)
            height += 0.06 * bump(eye, s["brow_y"] + 0.02, 0.33, 0.10) + cheek
        fold = np.exp(-(((np.abs(X) - (0.27 + 0.30 * (Y - 0.65))) / 0.045) ** 2))
        self.fold = fold * smoothstep(0.58, 0.75, Y) * (1 - smoothstep(1.0, 1.15, Y))
        height += nose + 0.06 * bump(0, s["mouth_y"], 0.34, 0.16) - 0.05 * bump(0, s["mouth_y"] + 0.2, 0.25, 0.07)
        height += 0.08 * bump(0, s["chin"] - 0.16, 0.25, 0.16) - 0.025 * s["age"] * self.fold
        height = blur((height * UNIT).astype(np.float32), 1.4)
        pores = band_noise(rng, 0.6, 1.6)
        lines = blur(band_noise(rng, 0.8, 3.0), 5.0, 0.6)
        creased = np.clip(smoothstep(-0.35, -0.5, Y) + bump(-0.75, 0.05, 0.2, 0.2) + bump(0.75, 0.05, 0.2, 0.2), 0, 1)
        rough = 0.5 + 0.5 * smoothstep(0.25, 0.6, np.abs(Y - 0.1))
        lines = 5.0 * s["wrinkles"] * s["age"] * lines / lines.std() * creased
        height = height + 1.8 * s["pores"] * pores * rough + lines
        slope_y, slope_x = np.gradient(height.astype(np.float32))
        norm = 1 / np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)
        self.normal = (-slope_x * norm, -slope_y * norm, norm)
        return nose

    def _paint_skin(self, rng):
        s = self.shape
        skin = tint(np.ones((SIZE, SIZE), np.float32), self.skin)
        skin *= rgb(1 + 0.035 * band_noise(rng, 9, 30))
        skin *= 1 + tint(0.02 * band_noise(rng, 3, 8), np.array([0.6, 1, 1.1], np.float32))
        cheeks = sum(bump(side * 0.55, 0.45, 0.3, 0.28) for side in (-1, 1))
        blush = 0.8 * bump(0, s["nose_length"] - 0.08, 0.16, 0.14) + cheeks
        skin *= 1 - tint(0.5 * blush, np.array([0, 0.13, 0.13], np.float32))
        skin *= rgb(1 + 1.1 * s["pores"] * band_noise(rng, 0.5, 1.5))
        spots = np.zeros((SIZE, SIZE), np.float32)
        for _ in range(int(260 * max(0.0, s["freckles"] - 0.45))):
            radius, strength = rng.uniform(0.4, 1.2), rng.uniform(0.1, 0.4)
            place = pixel(rng.normal(0, 0.5), rng.normal(0.3, 0.4))
            cv2.circle(spots, place, int(radius * 16), float(strength), -1, cv2.LINE_AA, 4)
        for _ in range(rng.integers(0, 5)):
            place = pixel(rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 1.2))
            cv2.circle(spots, place, int(rng.uniform(1, 2) * 16), 0.6, -1, cv2.LINE_AA, 4)
        skin *= 1 - tint(0.8 * spots, np.array([0.6, 0.8, 0.9], np.float32))
        around_mouth = 1 - bump(0, s["mouth_y"], s["mouth_width"], 0.12)
        beard = smoothstep(0.72, 0.95, Y) * around_mouth * smoothstep(0, 0.25, np.abs(X) + (Y - 0.75))
        bristles = np.clip(0.5 * band_noise(rng, 0.5, 1.1) + 0.45, 0, 1.2)
        stubble = np.clip(1.4 * max(0.0, s["stubble"] - 0.45) * beard * bristles, 0, 0.85).astype(np.float32)
        for cover, shade in ((stubble, 0.8), (self._brows(rng), 0.6)):
            skin = skin * rgb(1 - cover) + tint(cover, self.traits.hair) * shade
        return (skin * rgb(self._occlusion())).astype(np.float32)

    def _brows(self, rng):
        s = self.shape
        brows = np.zeros((SIZE, SIZE), np.float32)
        for side in (-1, 1):
            for _ in range(110):
                t = rng.uniform(-1, 1)
                x = side * (s["eye_x"] + 0.02 + t * s["brow_width"])
                y = s["brow_y"] - s["brow_arch"] * (1 - t * t) + 0.03 * max(0, t)
                y += rng.normal(0, 0.55 * s["brow_thickness"])
                dx, dy = side * rng.uniform(0.04, 0.09), rng.uniform(-0.05, 0) + 0.05 * max(0, t)
                cv2.line(brows, pixel(x, y), pixel(x + dx, y + dy), float(rng.uniform(0.5, 1)), 1, cv2.LINE_AA, 4)
            t = np.clip((side * X - s["eye_x"] - 0.02) / s["brow_width"], -1.3, 1.3)
            middle = s["brow_y"] - s["brow_arch"] * (1 - t * t) + 0.03 * np.maximum(0, t)
            base = np.exp(-(((Y - middle) / s["brow_thickness"]) ** 2)) * (1 - smoothstep(0.8, 1.15, np.abs(t)))
            brows = np.maximum(brows, 0.65 * (base * (side * X > 0)).astype(np.float32))
        return brows * s["brow_density"]

    def _occlusion(self):
        """Shadow that shape casts on itself whatever the light: sockets, nostrils, folds, jaw."""
        s = self.shape
        light = np.ones((SIZE, SIZE), np.float32)
        for side in (-1, 1):
            socket = 0.22 * bump(side * (s["eye_x"] - 0.06), -0.06, 0.24, 0.10)
            light -= socket + 0.10 * bump(side * 0.24, 0.12, 0.1, 0.16)
            light -= 0.50 * bump(side * 0.6 * s["nose_width"], s["nose_length"] + 0.015, 0.05, 0.03)
            light -= 0.15 * bump(side * 1.45 * s["nose_width"], s["nose_length"] - 0.02, 0.05, 0.10)
            light -= 0.10 * s["age"] * bump(side * s["eye_x"], 0.14, 0.2, 0.04)
        under_nose, under_lip = bump(0, s["nose_length"] + 0.09, 0.2, 0.06), bump(0, s["mouth_y"] + 0.2, 0.2, 0.05)
        light -= 0.10 * s["age"] * self.fold + 0.16 * under_nose + 0.16 * under_lip
        return light * (1 - 0.30 * smoothstep(0.75, 1.0, self.radius))

    def _grow_hair(self, rng):
        """Where hair covers the head; returns the waves in it."""
        s = self.shape
        wavy = band_noise(rng, 5, 14)
        tufts = blur(band_noise(rng, 1.0, 4.0), 0.8, 4.0)  # upright streaks: the fringe ends in strands, not in a line
        fringe = s["hairline"] + (0.32 + 0.2 * s["fringe"]) * X**2 + s["fringe"] * 0.35 * X
        self.hairline = fringe + 0.9 * smoothstep(0.78, 1.0, np.abs(X)) + 0.035 * wavy + 0.05 * tufts / tufts.std()
        skull = np.abs(X / (1.12 * s["width"])) ** 2.4 + np.abs((Y + 0.1) / 1.5) ** 2.4 + 0.03 * wavy
        hair = (1 - smoothstep(0.97, 1.03, skull)) * (1 - smoothstep(-0.04, 0.04, Y - self.hairline))
        self.hair = hair.astype(np.float32)
        return wavy

    def _paint_hair_and_ears(self, rng, wavy):
        s = self.shape
        ears, ear_light = np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)
        for side in (-1, 1):
            d = ((X - side * s["width"]) / 0.14) ** 2 + ((Y - 0.18) / 0.30) ** 2
            ears = np.maximum(ears, 1 - smoothstep(0.9, 1.1, d))
            ear_light = ear_light - 0.35 * np.exp(-((d / 0.35) ** 2))
        self.ear_colour = tint(ear_light, self.skin * 0.85).astype(np.float32)
        self.alpha = np.clip(self.face + ears + self.hair, 0, 1).astype(np.float32)
        # Strands fall from a point at the crown, the parting, so that they run down the forehead and round the sides.
        dx, dy = X - s["parting"], Y + 2.1
        angle, distance = np.arctan2(dx, dy), np.sqrt(dx**2 + dy**2)
        strands = blur(band_noise(rng, 0.6, 3, (128, 1024)), 0.6, 14)
        strands /= strands.std()
        along = ((angle / np.pi * 0.5 + 0.5) * 1000 + 9 * wavy * 0.3).astype(np.float32)
        strand = cv2.remap(strands, along, (distance * 40 % 127).astype(np.float32), cv2.INTER_LINEAR)
        sheen = 0.62 + 0.35 * np.exp(-(((distance - 1.05) / 0.22) ** 2))
        sheen = sheen - 0.25 * np.exp(-(((self.hairline - Y) / 0.05) ** 2))
        self.hair_colour = tint(np.clip(sheen + 0.26 * strand, 0.12, 2), self.traits.hair).astype(np.float32)

    def _paint_body(self, rng):
        s = self.shape
        neck = (1 - smoothstep(0.52, 0.58, np.abs(X) - 0.12 * smoothstep(1.6, 2.1, Y))) * smoothstep(0.8, 0.9, Y)
        collar = 1.85 + 0.22 * np.abs(X) ** 1.6 + 0.12 * smoothstep(0.5, 0.3, np.abs(X))
        shirt = smoothstep(-0.02, 0.02, Y - collar)
        cloth = 0.04 * band_noise(rng, 0.5, 1.5) + 0.07 * band_noise(rng, 6, 20)
        if rng.random() < 0.3:
            cloth = cloth + 0.06 * np.sign(np.sin(PIXEL_Y * rng.uniform(0.2, 0.9)))
        shade = 0.65 + 0.35 * np.cos(X * 0.9)
        wavy = band_noise(rng, 5, 14)
        neck_light = 0.72 * shade * (1 - 0.35 * smoothstep(1.75, 1.3, Y)) * (1 + s["pores"] * band_noise(rng, 0.5, 1.5))
        body = tint(neck_light, self.skin) * rgb(1 - shirt) + tint(shade * (1 + cloth), self.traits.shirt) * rgb(shirt)
        cover = np.maximum(neck, shirt)
        if self.traits.long_hair:
            locks = (1 - smoothstep(0.95, 1.05, (np.abs(X) + 0.05 * wavy) / 1.14)) * (Y > -0.4)
            locks = locks * (1 - smoothstep(1.45, 1.85, Y + 0.5 * X**2 + 0.1 * wavy))
            behind = rgb(locks * (1 - neck))
            body = body * (1 - behind) + 0.7 * self.hair_colour * behind
            cover = np.maximum(cover, locks)
        self.body = np.dstack([body, cover]).astype(np.float32)

    def turn(self, pose, box=None):
        """Where each pixel of a box of the posed frame (all of it by default) is in the canonical drawing: float32 maps x, y."""
        left, top, right, bottom = box or (0, 0, SIZE, SIZE)
        scale, roll = UNIT * pose.scale, pose.roll
        du = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(CENTRE[0] + pose.x)
        dv = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(CENTRE[1] + pose.y)
        cos, sin = np.float32(np.cos(roll) / scale), np.float32(np.sin(roll) / scale)
        seen_x, seen_y = du * cos + dv * sin, dv * cos - du * sin
        sin_yaw, cos_yaw = np.float32(np.sin(pose.yaw)), np.float32(np.cos(pose.yaw))
        sin_pitch, cos_pitch = np.float32(np.sin(pose.pitch)), np.float32(np.cos(pose.pitch))
        x, y = seen_x, seen_y
        for _ in range(2):  # fixed point: the depth at the point that is being looked for
            columns, rows = x * np.float32(UNIT) + np.float32(CENTRE[0]), y * np.float32(UNIT) + np.float32(CENTRE[1])
            depth = cv2.remap(self.depth, columns, rows, cv2.INTER_LINEAR) - np.float32(0.45)
            x, y = (seen_x - depth * sin_yaw) / cos_yaw, (seen_y + depth * sin_pitch) / cos_pitch
        mouth = np.float32(self.shape["mouth_y"])
        jaw = smoothstep(mouth + 0.12, mouth + 0.4, y) * (1 - smoothstep(1.7, 2.0, y))
        y = y - np.float32(0.55 * pose.mouth_open) * jaw
        return (x * UNIT + CENTRE[0]).astype(np.float32), (y * UNIT + CENTRE[1]).astype(np.float32)
