"""From frames to videos, and from videos to the groups of identities that a bootstrap draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from addlib.metrics._inputs import check_names, check_scored, to_array


class Videos(NamedTuple):
    """One entry for each video, in the order of its first frame: mean probability (V,) float64, label (V,), name (V,)."""

    probabilities: np.ndarray
    labels: np.ndarray
    videos: np.ndarray


def by_video(probabilities, labels, videos) -> Videos:
    """Mean probability of the frames of each video: ``scores(*by_video(p, y, v)[:2])`` are scores at video level.

    Args:
        probabilities: of fake, (N,) floats in [0, 1], one a frame.
        labels: (N,) integers, 1 fake and 0 real.
        videos: (N,) names, such as ``FacePairs.videos``. Frames of one name are one video: with several manipulations
            the name must hold the manipulation, as "Deepfakes/071_054" does.

    Raises:
        ValueError: as :func:`scores`, there is not one name for each frame, or a video has frames of both labels.
    """
    probabilities, labels = check_scored(probabilities, labels)
    names, first, member = np.unique(check_names("videos", videos, len(labels)), return_index=True, return_inverse=True)
    frames = np.bincount(member)
    fakes = np.bincount(member, labels)
    mixed = np.flatnonzero((fakes > 0) & (fakes < frames))
    if len(mixed):
        raise ValueError(
            f"video {str(names[mixed[0]])!r} has frames of label 0 and of label 1; "
            'names need the manipulation, as in "Deepfakes/071_054"'
        )
    order = np.argsort(first)
    means = np.bincount(member, probabilities) / frames
    return Videos(means[order], (fakes > 0)[order].astype(np.int64), names[order])


def identities(videos) -> np.ndarray:
    """Number of the group of identities of each video: videos that share a face, directly or by others, are one group.

    The real "071" and "054" and the fakes "071_054" and "054_071" are one group, as in the splits: their frames show
    the same two faces, so they are no independent evidence. Groups are connected components over the identities that
    the names hold. The actors of DeepFakeDetection are apart from the identities of the other videos; each is swapped
    with many others, so that all may be one group, which no bootstrap can resample.

    Args:
        videos: (N,) names, with the manipulation ("Deepfakes/071_054", "original/071") or without, one a frame or one
            a video; no suffix.

    Returns:
        (N,) int64 in 0 ... groups - 1, in the order of the groups' first identities; the order of the videos does not
        change a group's number.

    Raises:
        ValueError: the names are not (N,), there are none, or one ends in ".mp4", whose digit would be an identity.
    """
    videos = to_array(videos)
    if videos.ndim != 1 or not len(videos):
        raise ValueError(f"videos are {videos.shape}, expected at least one name, (N,)")
    names, member = np.unique(videos.astype(str), return_inverse=True)
    ids = [_ids(name) for name in names.tolist()]
    nodes = {node: index for index, node in enumerate(sorted({node for group in ids for node in group}))}
    links = np.array([(nodes[group[0]], nodes[node]) for group in ids for node in group])
    graph = coo_matrix((np.ones(len(links)), links.T), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    # Components as they come, in the order of the nodes, so that the numbers are those of the docstring.
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[number]
    return np.array([rank[nodes[group[0]]] for group in ids], np.int64)[member]


def _ids(name: str) -> list[tuple[str, str]]:
    """Identities of a video, each with the real videos that it is from: the numbers of actors are others."""
    from addlib.faceforensics import tree  # brings pandas and dask, which nothing else here needs

    if name.endswith(".mp4"):
        raise ValueError(f'{name!r} is a file, expected the name of a video, such as "Deepfakes/071_054"')
    manipulation, _, video = name.rpartition("/")
    return [(tree.reals_of(manipulation), identity) for identity in tree.identities(video)]
