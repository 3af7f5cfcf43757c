"""MiniForensics: synthetic people put through five manipulations and real H.264, on disk as a FaceForensics++ tree.

Nobody's face is in it, and anybody can make it: the data set is this code and a seed.
"""

from .canvas import SIZE
from .manipulations import MANIPULATIONS
from .writer import generate, generator_hash, pairs, render_video

__all__ = ["MANIPULATIONS", "SIZE", "generate", "generator_hash", "pairs", "render_video"]
