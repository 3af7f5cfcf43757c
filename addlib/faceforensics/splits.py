"""Training, validation and test identities. A pair of identities never crosses a border: its four videos show the same faces."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .tree import Video, reals_of

SPLITS = ("train", "val", "test")
SHARES = (0.72, 0.14, 0.14)  # the paper's 720, 140 and 140 of 1,000


def groups(names: Iterable[Sequence[str]]) -> dict[str, int]:
    """Number the groups of identities that belong together, because a chain of videos connects them: {identity: group}.

    Args:
        names: for each video, the identities in it.
    """
    root: dict[str, str] = {}

    def find(identity: str) -> str:
        while root.setdefault(identity, identity) != identity:
            identity = root[identity]
        return identity

    for name in names:
        for other in name:
            one, two = sorted((find(name[0]), find(other)))
            root[two] = one
    number: dict[str, int] = {}
    return {identity: number.setdefault(find(identity), len(number)) for identity in sorted(root)}


def seeded(names: Iterable[Sequence[str]], seed: int = 0, shares: Sequence[float] = SHARES) -> dict[str, str]:
    """Split identities at random, by pair: {identity: split}.

    Args:
        names: for each video, the identities in it. Identities that share a video go together.
        seed: of the shuffle.
        shares: of train, val, test; rounded, each at least one group.

    Raises:
        ValueError: if there are fewer than three groups, since each split needs one.
    """
    group_of = groups(names)
    count = len(set(group_of.values()))
    if count < 3:
        raise ValueError(
            f"{count} groups of identities cannot make train, val and test; expected three pairs or more, or give splits="
        )
    sizes = [max(1, round(share * count)) for share in shares[1:]]
    bounds = np.cumsum([count - sum(sizes), *sizes])
    rank = np.empty(count, int)
    rank[np.random.default_rng([seed, 1]).permutation(count)] = np.arange(count)
    return {
        identity: SPLITS[int(np.searchsorted(bounds, rank[group], side="right"))]
        for identity, group in group_of.items()
    }


def official(splits: str | Path | dict) -> dict[str, str]:
    """Read splits in FaceForensics++'s form: {identity: split}.

    Args:
        splits: folder with train.json, val.json and test.json, or {"train": [["071", "054"], …], …}.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for another form or an identity in two splits.
    """
    if not isinstance(splits, dict):
        folder = Path(splits)
        missing = [name for name in SPLITS if not (folder / f"{name}.json").is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} lacks {[f'{name}.json' for name in missing]}; it is the folder dataset/splits of FaceForensics++"
            )
        splits = {name: _json(folder / f"{name}.json") for name in SPLITS}
    if set(splits) - set(SPLITS):
        raise ValueError(f"splits are named {sorted(splits)}; expected {list(SPLITS)}")
    assigned: dict[str, str] = {}
    for split, pairs in splits.items():
        if not isinstance(pairs, list | tuple):
            raise ValueError(f'{split} holds a {type(pairs).__name__}; expected a list of pairs such as ["071", "054"]')
        for pair in pairs:
            if not isinstance(pair, list | tuple) or not all(isinstance(i, str) and i.isalnum() for i in pair):
                raise ValueError(f'{split} holds {pair!r}; expected pairs of identities such as ["071", "054"]')
            for identity in pair:
                if assigned.setdefault(identity, split) != split:
                    raise ValueError(
                        f"identity {identity} is in {assigned[identity]} and in {split}; a split by identity has it once"
                    )
    return assigned


def _json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not the JSON of a split ({error}); fetch it again") from error


def split_of(ids: Sequence[str], assigned: dict[str, str]) -> str | None:
    """The one split of a video's identities, or None where they have none or are not all in the same."""
    found = {assigned.get(identity) for identity in ids}
    return found.pop() if len(found) == 1 else None


def check(videos: Iterable[Video], assigned: dict[str, str]) -> None:
    """See that splits fit the videos on disk, before anything is cut.

    Args:
        videos: what ``discover`` found.
        assigned: {identity: split}.

    Raises:
        ValueError: if the number of an identity is spelled in two ways, such as 71 and 071, on disk or in the split, or if no
            video of a split is there.
    """
    videos = list(videos)
    for family in sorted({reals_of(video.manipulation) for video in videos}):
        there = {i for video in videos if reals_of(video.manipulation) == family for i in video.ids}
        spelled: dict[int, str] = {}
        for identity in sorted(filter(str.isdecimal, there)):
            if (other := spelled.setdefault(int(identity), identity)) != identity:
                raise ValueError(f"videos are named by {other} and by {identity}, the same number; rename those of one kind")
        for identity in sorted(filter(str.isdecimal, set(assigned) - there)):
            if (other := spelled.get(int(identity), identity)) != identity and other not in assigned:
                raise ValueError(
                    f"the split names identity {identity}, the videos {other}: write the split's identities with as many zeros as the "
                    'videos have, as text, such as "071"'
                )
    filled = {split_of(video.ids, assigned) for video in videos}
    for split in dict.fromkeys(assigned.values()):
        if split not in filled:
            named = [identity for identity, name in assigned.items() if name == split]
            raise ValueError(
                f"no video on disk is in {split}: the split names identities such as {named[:3]}, the videos are such as "
                f"{[video.name for video in videos[:3]]}; give the split files of this data set, or leave splits out"
            )
