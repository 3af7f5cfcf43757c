"""addlib: the library behind the book on attention-based distillation for compressed deepfake images.

Chapters and anybody's own training loop import the same modules:

``video``           frames in, H.264 out at a constant rate factor
``faces``           the largest face of a frame, its box and its crop
``faceforensics``   the FaceForensics++ tree: preparation into crops, splits, the paired data set
``miniforensics``   the embedded data set of drawn people, written as a FaceForensics++ tree
``losses``          frequency attention, multi-view attention, and the baselines
``book``            execute, validate, refresh and publish the book

Importing this package loads nothing else, sets no seed, and prints nothing.
"""

__version__ = "0.1.0"
