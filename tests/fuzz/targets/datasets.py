"""Files of the public data sets: the case is one of them, the others are as they should be."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from shared.datasets import load
from shared.datasets.movielens import movielens_100k
from tests.fuzz.targets.base import NOW_MS, Target, scratch
from tests.fuzz.targets.files import read_rows

# By data set and file, what stands in it.
_FILES = {
    "movielens-1m": {
        "ratings.dat": "1::1193::5::978300760\n",
        "movies.dat": "1193::One Flew Over (1975)::Drama|War\n",
        "users.dat": "1::F::25::10::48067\n",
        "movies_extrainfos.dat": "1193::One::1975::PG-13::x::x::x::x::x::A plot::x\n",
    },
    "ciaodvd": {
        "movie-ratings.txt": "1,5,3,77,4,2008-05-01\n",
        "trusts.txt": "1,2,1\n",
    },
    "lastfm": {
        "user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t1\n",
        "artists.dat": "id\tname\turl\tpictureURL\n51\tDuran Duran\tx\ty\n",
        "user_friends.dat": "userID\tfriendID\n2\t275\n",
    },
    "movielens-100k": {
        "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "196\t242\t3\t881250949\n",
        "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tA C\n",
        "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n",
    },
}  # fmt: skip
_PLACES = tuple((name, file) for name, files in _FILES.items() for file in files)


@cache
def _folder(name: str) -> Path:
    folder = scratch() / name
    folder.mkdir(exist_ok=True)
    for file, text in _FILES[name].items():
        (folder / file).write_text(text)
    return folder


def _read(case: bytes) -> None:
    name, file = _PLACES[case[0] % len(_PLACES)] if case else _PLACES[0]
    folder = _folder(name)
    (folder / file).write_bytes(case[1:])
    try:
        dataset = (
            movielens_100k(NOW_MS, folder) if name == "movielens-100k" else load(name, folder, now_ms=NOW_MS)
        )
        read_rows(dataset)
    finally:
        (folder / file).write_text(_FILES[name][file])


def _seeds() -> list[bytes]:
    return [bytes((n,)) + _FILES[name][file].encode() for n, (name, file) in enumerate(_PLACES)]


TARGETS = (Target("public-datasets", _read, _seeds),)
