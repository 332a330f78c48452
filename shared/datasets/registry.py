"""The data sets known by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from shared.datasets.amazon import amazon_games
from shared.datasets.ciaodvd import ciaodvd
from shared.datasets.lastfm import lastfm
from shared.datasets.movielens import movielens_1m, movielens_100k
from shared.datasets.rows import Dataset, DatasetError


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """How to open one data set; `needs` names the files that --path must hold ("" = no path needed)."""

    about: str
    needs: str
    open: Callable[[int, Path], Dataset]


DATASETS: Mapping[str, KnownDataset] = MappingProxyType(
    {
        "movielens-100k": KnownDataset(
            "100,000 film ratings (installed with the dependencies)", "", lambda now, _: movielens_100k(now)
        ),
        "movielens-1m": KnownDataset(
            "a million film ratings",
            "ratings.dat or ratings.parquet, movies.dat, users.dat (and movies_extrainfos.dat, if there)",
            movielens_1m,
        ),
        "amazon-games": KnownDataset(
            "Amazon Video Games 2018, 5-core", "interactions.parquet, items.parquet", amazon_games
        ),
        "ciaodvd": KnownDataset(
            "film ratings and a network of trust", "movie-ratings.txt, trusts.txt", ciaodvd
        ),
        "lastfm": KnownDataset(
            "artists' play counts and friends", "user_artists.dat, artists.dat, user_friends.dat", lastfm
        ),
    }
)


def load(name: str, path: Path | None = None, *, now_ms: int | None = None) -> Dataset:
    """Opens a known data set.

    Args:
        name: one of DATASETS.
        path: the folder that holds its files; movielens-100k needs none.
        now_ms: later times are refused as being in the future; by default the clock's.

    Raises DatasetError where the name is unknown or the files are not there.
    """
    known = DATASETS.get(name)
    if known is None:
        raise DatasetError(f"dataset must be one of {', '.join(DATASETS)}, got {name!r}")
    if known.needs and path is None:
        raise DatasetError(f"dataset {name} needs --path DIR, a folder with {known.needs}")
    if known.needs and path is not None and not path.is_dir():
        raise DatasetError(f"--path must be a folder with {known.needs}, got {path}")
    return known.open(now_ms or time.time_ns() // 1_000_000, path or Path())
