"""Training, validation and test identities. A pair of identities never crosses a border: its four videos show the same faces."""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .tree import Video, reals_of

SPLITS = ("train", "val", "test")
SHARES = (0.72, 0.14, 0.14)  # the paper's 720, 140 and 140 of 1,000


def groups(names: Iterable[Sequence[str]]) -> dict[str, int]:
    """Number the groups of identities that a chain of videos connects: {identity: group}. ``names``: the identities of each."""
    group: dict[str, set[str]] = {}
    for name in names:
        merged = set(name).union(*(group.get(identity, ()) for identity in name))
        group |= dict.fromkeys(merged, merged)
    number: dict[str, int] = {}
    return {identity: number.setdefault(min(group[identity]), len(number)) for identity in sorted(group)}


def seeded(names: Iterable[Sequence[str]], seed: int = 0, shares: Sequence[float] = SHARES) -> dict[str, str]:
    """Split identities at random, those that share a video together: {identity: split}.

    Args:
        names: for each video, the identities in it.
        seed: of the shuffle.
        shares: of train, val, test; rounded, each at least one group.
    """
    group_of = groups(names := list(names))
    count = len(set(group_of.values()))
    if count < 3:
        [(common, times)] = Counter(identity for each in names for identity in set(each)).most_common(1) or [("none", 0)]
        found = f"{count} groups of identities; {times} of {len(names)} videos name {common!r}"
        wanted = "three groups or more, one for each split, or splits=; what else than TARGET_SOURCE a name says, it says after __"
        raise ValueError(f"{found}; expected {wanted}")
    sizes = [max(1, round(share * count)) for share in shares[1:]]
    order = np.random.default_rng([seed, 1]).permutation(count)
    split_of_group = dict(zip(order.tolist(), np.repeat(SPLITS, [count - sum(sizes), *sizes]).tolist(), strict=True))
    return {identity: split_of_group[group] for identity, group in group_of.items()}


def official(splits: str | Path | dict) -> dict[str, str]:
    """Read splits in FaceForensics++'s form: {identity: split}.

    Args:
        splits: folder with train.json, val.json and test.json, or {"train": [["071", "054"], …], …}.
    """
    if not isinstance(splits, dict):
        folder, splits = Path(splits), {}
        for path in (folder / f"{name}.json" for name in SPLITS):
            if not path.is_file():
                raise FileNotFoundError(f"no {path}; give the folder dataset/splits of FaceForensics++")
            try:
                splits[path.stem] = json.loads(path.read_bytes())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} is not the JSON of a split ({error}); fetch it again") from error
    if set(splits) - set(SPLITS) or not splits:
        raise ValueError(f"splits are named {sorted(splits)}; expected {list(SPLITS)}")
    if splits.get("train") and (empty := [split for split, pairs in splits.items() if not pairs]):
        warnings.warn(f"{' and '.join(empty)} of the splits name nobody: a detector is chosen on val, tested on test", stacklevel=3)
    assigned: dict[str, str] = {}
    for split, pairs in splits.items():
        for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
            if not isinstance(pair, list | tuple) or not all(isinstance(i, str) and i and not set(i) & set("_/ ") for i in pair):
                raise ValueError(f'{split} holds {pair!r}; expected a list of pairs such as [["071", "054"]], names without "_"')
            for identity in pair:
                if assigned.setdefault(identity, split) != split:
                    raise ValueError(f"{identity} is in {assigned[identity]} and in {split}; expected it in one split")
    return assigned


def split_of(ids: Sequence[str], assigned: dict[str, str]) -> str | None:
    """The one split of a video's identities, or None where they have none or are not all in the same."""
    found = {assigned.get(identity) for identity in ids}
    return found.pop() if len(found) == 1 else None


def check(videos: Sequence[Video], assigned: dict[str, str]) -> None:
    """Raise ValueError where a number is spelled in two ways, such as 71 and 071, or no video of a split is there.

    Warns of fakes whose names link them to no real video.
    """
    reals = {identity for video in videos if not video.label for identity in video.ids}
    if alone := [video.name for video in videos if video.label and not reals.intersection(video.ids)]:
        wanted = "expected TARGET_SOURCE of real videos, spelled alike: else the same person may be in several splits"
        warnings.warn(f"{len(alone)} fakes name no real video that is there, such as {alone[0]}; {wanted}", stacklevel=3)
    for family in {reals_of(video.manipulation) for video in videos}:
        there = {i for video in videos if reals_of(video.manipulation) == family for i in video.ids if i.isdecimal()}
        spelled = {int(identity): identity for identity in sorted(there, reverse=True)}
        if twice := sorted(there - set(spelled.values())):
            other = spelled[int(twice[0])]
            raise ValueError(f"videos are named by {other} and {twice[0]}, one number; rename those of one kind")
        for identity in filter(str.isdecimal, assigned):
            if (other := spelled.get(int(identity), identity)) not in assigned:
                raise ValueError(f'the split names {identity}, the videos {other}: write its zeros too, as "{other}"')
    for split in SPLITS:
        named = [identity for identity, name in assigned.items() if name == split][:3]
        if named and all(split_of(video.ids, assigned) != split for video in videos):
            there = [video.name for video in videos[:3]]
            remedy = "give the split files of this data set, or leave splits out"
            raise ValueError(f"no video on disk is in {split}, which has {named}; there are {there}: {remedy}")
