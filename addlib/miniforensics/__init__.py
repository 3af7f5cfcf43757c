"""MiniForensics: drawn people put through five manipulations and real H.264, on disk as a FaceForensics++ tree.

Nobody's face is in it, and anybody can make it: the data set is this code and a seed.
"""

from .canvas import SIZE
from .manipulations import MANIPULATIONS
from .writer import generate, pairs, render_video, source_hash

__all__ = ["MANIPULATIONS", "SIZE", "generate", "pairs", "render_video", "source_hash"]
