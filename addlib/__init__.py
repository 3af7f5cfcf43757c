"""addlib: the library behind the book on distillation for compressed deepfake images.

Data flow one way, from a video to a row of results:

* ``video``, ``clips``, ``faces``: frames in, H.264 out; the largest face and its crop
* ``miniforensics``: the embedded data set of drawn people, written as a FaceForensics++ tree
* ``faceforensics``: such a tree into crops, splits and a manifest; ``FacePairs``, the paired data set
* ``detectors``: backbones that return stages, embedding and logits
* ``losses``: frequency attention, multi-view attention, and the baselines
* ``training``: a detector on one quality, a student under a frozen teacher
* ``metrics``: scores, Recall@1, intervals over identities and seeds
* ``results``, ``sweep``: rows, and grids of trainings that fill them

Beside the flow: ``explain`` (where a network looks), ``codecs`` (other compressions), ``judge`` (one video).
Below everything: ``files``, ``parallel``, ``provenance``.

Importing this package loads nothing else, sets no seed, and prints nothing.
"""

__version__ = "0.1.0"
