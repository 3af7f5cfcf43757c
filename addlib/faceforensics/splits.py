"""Training, validation and test identities. A pair of identities never crosses a border: its four videos show the same faces."""

import json
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SPLITS = ("train", "val", "test")
SHARES = (0.72, 0.14, 0.14)  # the paper's 720, 140 and 140 of 1,000


def seeded(names, seed=0, shares=SHARES):
    """Split identities at random, by pair: {identity: split}.

    names: for each video, the tuple of identities in it. Identities that share a video go together.
    seed: of the shuffle. shares: of train, val, test; rounded, each at least one group where there are three or more.
    Raises ValueError if there are fewer than three groups, since each split needs one.
    """
    ids = sorted({identity for group in names for identity in group})
    index = {identity: i for i, identity in enumerate(ids)}
    links = [(index[a], index[b]) for group in names for a, b in zip(group, group[1:], strict=False)]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    count, group_of = connected_components(
        coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(ids), len(ids))), directed=False
    )
    if count < 3:
        raise ValueError(
            f"{count} groups of identities cannot make train, val and test; expected three pairs or more, or give splits="
        )
    sizes = [max(1, round(share * count)) for share in shares[1:]]
    bounds = np.cumsum([count - sum(sizes), *sizes])
    rank = np.empty(count, int)
    rank[np.random.default_rng([seed, 1]).permutation(count)] = np.arange(count)
    return {
        identity: SPLITS[int(np.searchsorted(bounds, rank[group_of[i]], side="right"))]
        for i, identity in enumerate(ids)
    }


def official(splits):
    """Read splits in FaceForensics++'s form: {identity: split}.

    splits: folder with train.json, val.json and test.json, or {"train": [["071", "054"], …], …}.
    Raises FileNotFoundError for a missing file, ValueError for another form or an identity in two splits.
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
    assigned = {}
    for split, pairs in splits.items():
        if not isinstance(pairs, (list, tuple)):
            raise ValueError(f'{split} holds a {type(pairs).__name__}; expected a list of pairs such as ["071", "054"]')
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or not all(
                isinstance(identity, str) and identity.isalnum() for identity in pair
            ):
                raise ValueError(f'{split} holds {pair!r}; expected pairs of identities such as ["071", "054"]')
            for identity in pair:
                if assigned.setdefault(identity, split) != split:
                    raise ValueError(
                        f"identity {identity} is in {assigned[identity]} and in {split}; a split by identity has it once"
                    )
    return assigned


def _json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not the JSON of a split ({error}); fetch it again") from error


def split_of(ids, assigned):
    """The one split of a video's identities, or None where they have none or are not all in the same."""
    found = {assigned.get(identity) for identity in ids}
    return found.pop() if len(found) == 1 else None
