"""addlib: the library behind the book on attention-based distillation for compressed deepfake images.

Chapters and anybody's own training loop import the same modules:

* ``video``: frames in, H.264 out at a constant rate factor
* ``faces``: the largest face of a frame, its box and its crop
* ``faceforensics``: the FaceForensics++ tree: preparation into crops, splits, the paired data set
* ``miniforensics``: the embedded data set of drawn people, written as a FaceForensics++ tree
* ``detectors``: backbones that return stages, embedding and logits
* ``losses``: frequency attention, multi-view attention, and the baselines
* ``training``: a detector on one quality, a student under a frozen teacher
* ``metrics``: scores, Recall@1, intervals over identities and seeds
* ``experiments``: grids of trainings into a table of results
* ``spectra``: what is at which frequency of a picture
* ``files``: files that are there whole or not at all
* ``figures``: one look for all figures
* ``book``: execute, validate, refresh and publish the book

Importing this package loads nothing else, sets no seed, and prints nothing.
"""

__version__ = "0.1.0"
