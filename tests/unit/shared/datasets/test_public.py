"""The readers of public data sets, on hand-made files of each format and on the real files where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.datasets import DatasetError, Reject, accepted, load
from shared.datasets.lastfm import synthetic_time_ms
from shared.datasets.movielens import movielens_100k
from shared.domain import Action, Relation, User

NOW_MS = 1_700_000_000_000
_JULY_12_2000 = 963360000000
_BIG = Path(os.environ.get("WARMSTART_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data")


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    (folder / name).write_text(text, encoding=encoding)


def big(folder: str) -> Path:
    path = _BIG / folder
    if not path.is_dir():
        pytest.skip(f"needs {folder} under ../shared/data or WARMSTART_DATA")
    return path


def test_the_real_movielens_100k_is_whole():
    dataset = load("movielens-100k")
    events = list(accepted(dataset.events()))
    assert len(events) == 100_000
    assert len({e.user_id for e in events}) == 943
    assert len({e.item_id for e in events}) == 1682
    assert len({e.event_id for e in events}) == 100_000
    items, users = list(dataset.items()), list(dataset.users())
    assert (len(items), len(users)) == (1682, 943)
    assert not [r for r in (*items, *users) if isinstance(r, Reject)]
    first = events[0]
    assert (first.user_id, first.item_id, first.action, first.value, first.time_ms) == (
        "196",
        "242",
        Action.RATING,
        3.0,
        881250949000,
    )
    toy_story = items[0].value
    assert (toy_story.title, toy_story.categories) == (
        "Toy Story (1995)",
        ("Animation", "Children's", "Comedy"),
    )
    assert toy_story.created_ms == 788918400000  # 1995-01-01
    assert users[0].value.attributes == {
        "gender": "M",
        "age_group": "18-24",
        "occupation": "technician",
        "region": "8",
    }


def test_movielens_100k_says_what_to_install_where_the_wheel_is_missing(monkeypatch):
    def missing(name: str) -> object:
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(name)

    monkeypatch.setattr("shared.datasets.movielens.distribution", missing)
    with pytest.raises(DatasetError, match=r"pip install --no-deps recbole==1\.2\.1"):
        load("movielens-100k")


def test_movielens_100k_is_found_without_importing_its_wheel():
    import sys

    list(zip(range(1), load("movielens-100k").events(), strict=False))
    assert "recbole" not in sys.modules


def test_a_film_from_before_the_epoch_is_not_new(tmp_path):
    write(
        tmp_path,
        "ml-100k.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tM\t1931\tCrime\n2\tunknown\t\t\n",
    )
    write(tmp_path, "ml-100k.inter", "")
    old, unknown = accepted(movielens_100k(NOW_MS, tmp_path).items())
    assert (old.created_ms, old.attributes) == (1, {"year": "1931"})
    assert (unknown.created_ms, unknown.attributes, unknown.categories) == (1, {}, ())


def test_movielens_1m_reads_the_original_files(tmp_path):
    write(tmp_path, "ratings.dat", "1::1193::5::978300760\n1::661::9::978302109\n1::914\n")
    write(
        tmp_path, "movies.dat", "1::Misérables, Les (1995)::Drama|Musical\n2::Untitled::Comedy\n", "latin-1"
    )
    write(tmp_path, "users.dat", "1::F::1::10::48067\n2::M::56::99::70072\n")
    write(
        tmp_path,
        "movies_extrainfos.dat",
        "1::Les::1995::R::x::Drama::d::w::a::A man: pursued.::url\n2::U::1::N/A::x::C::d::w::a::N/A::u\n",
    )
    dataset = load("movielens-1m", tmp_path, now_ms=NOW_MS)
    event, high, short = dataset.events()
    assert (event.value.item_id, event.value.value, event.value.time_ms) == ("1193", 5.0, 978300760000)
    assert high.reason == "value must be 1..5 for a rating, got '9'"
    assert (short.number, short.reason) == (3, "row must have 4 columns, got 2")
    first, second = accepted(dataset.items())
    assert (first.title, first.attributes, first.categories, first.description) == (
        "Misérables, Les (1995)",
        {"year": "1995"},
        ("Drama", "Musical", "Rated R"),
        "A man: pursued.",
    )
    assert (second.title, second.description, second.categories) == ("Untitled", "", ("Comedy",))
    user, unknown = dataset.users()
    assert user.value == User(
        "1", {"gender": "F", "age_group": "under 18", "occupation": "K-12 student", "region": "4"}
    )
    assert unknown.reason == "occupation must be 0..20, got '99'"


def test_movielens_1m_reads_parquet_alike(tmp_path):
    ratings = {"user_id": [1], "movie_id": [1193], "rating": [5], "timestamp": [978300760]}
    pq.write_table(pa.table(ratings), tmp_path / "ratings.parquet")
    (from_parquet,) = accepted(load("movielens-1m", tmp_path, now_ms=NOW_MS).events())
    write(tmp_path, "ratings.dat", "1::1193::5::978300760\n")
    (from_text,) = accepted(load("movielens-1m", tmp_path, now_ms=NOW_MS).events())
    assert from_parquet == from_text


def test_amazon_reviews_are_purchases_and_titles_are_unescaped(tmp_path):
    pq.write_table(
        pa.table({"user_id": [100], "item_id": [7], "timestamp": [1419897600]}),
        tmp_path / "interactions.parquet",
    )
    pq.write_table(pa.table({"item_id": [7], "title": ["Command &amp; Conquer"]}), tmp_path / "items.parquet")
    dataset = load("amazon-games", tmp_path, now_ms=NOW_MS)
    (event,) = accepted(dataset.events())
    assert (event.action, event.value, event.time_ms) == (Action.PURCHASE, 0.0, 1419897600000)
    (item,) = accepted(dataset.items())
    assert item.title == "Command & Conquer"
    assert dataset.notes


def test_ciaodvd_has_ratings_items_by_genre_and_trusts(tmp_path):
    write(
        tmp_path,
        "movie-ratings.txt",
        "1,10,4,1,5,2000-07-12\n2,10,4,2,3,2000-07-12\n2,11,99,3,1,2000-07-13\n2,12,1,4,2,2999-01-01\n",
    )
    write(tmp_path, "trusts.txt", "1,2,1\n2,2,1\n")
    dataset = load("ciaodvd", tmp_path, now_ms=NOW_MS)
    *good, late = dataset.events()
    assert [(r.value.user_id, r.value.value, r.value.time_ms) for r in good[:2]] == [
        ("1", 5.0, _JULY_12_2000),
        ("2", 3.0, _JULY_12_2000),
    ]
    assert "must not be in the future" in late.reason
    item, bad, _ = dataset.items()
    assert (item.value.item_id, item.value.categories) == ("10", ("Drama",))
    assert bad.reason == "genre must be 1..17, got '99'"
    tie, self_tie = dataset.relations()
    assert tie.value == Relation("1", "2", kind="trusts")
    assert "must differ" in self_tie.reason


def test_lastfm_likes_are_the_upper_half_of_a_persons_own_plays(tmp_path):
    write(
        tmp_path,
        "user_artists.dat",
        "userID\tartistID\tweight\r\n1\ta\t100\r\n1\tb\t10\r\n1\tc\t1\r\n2\ta\t5\r\n2\tb\tmany\r\n",
    )
    write(tmp_path, "artists.dat", 'id\tname\turl\tpictureURL\na\tThe "Band"\tu\tp\n')
    write(tmp_path, "user_friends.dat", "userID\tfriendID\n1\t2\n")
    dataset = load("lastfm", tmp_path, now_ms=NOW_MS)
    *plays, bad = dataset.events()
    # Person 1's median is 10 plays, person 2's is 5.
    assert [(p.value.item_id, p.value.action, p.value.value) for p in plays] == [
        ("a", Action.LIKE, 100.0),
        ("b", Action.LIKE, 10.0),
        ("c", Action.CLICK, 1.0),
        ("a", Action.LIKE, 5.0),
    ]
    assert bad.reason == "weight must be a number, got 'many'"
    assert plays[0].value.time_ms == synthetic_time_ms("1", "a")
    (artist,) = accepted(dataset.items())
    assert artist.title == 'The "Band"'
    assert list(accepted(dataset.relations())) == [Relation("1", "2", kind="friend")]
    assert any("synthetic" in note for note in dataset.notes)


def test_synthetic_times_are_stable_and_lie_in_their_year():
    times = [synthetic_time_ms(str(n), "a") for n in range(200)]
    assert times == [synthetic_time_ms(str(n), "a") for n in range(200)]
    assert 1272672000000 <= min(times) < max(times) < 1272672000000 + 365 * 86_400_000


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("netflix", None, "dataset must be one of movielens-100k, "),
        ("lastfm", None, "dataset lastfm needs --path DIR, a folder with user_artists.dat"),
        ("lastfm", "nowhere", "--path must be a folder with user_artists.dat"),
        ("movielens-1m", ".", "holds neither ratings.dat nor ratings.parquet"),
    ],
)
def test_what_is_missing_is_said(tmp_path, name, path, message):
    with pytest.raises(DatasetError, match=message):
        load(name, tmp_path / path if path else None)


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("ciaodvd", "ciaodvd", {"events": 72_665, "relations": 40_133}),
        ("lastfm", "lastfm-2k", {"events": 92_834, "items": 17_632, "relations": 25_434}),
    ],
)
def test_real_files_are_read_without_a_reject(name, folder, sizes):
    dataset = load(name, big(folder))
    for kind, size in sizes.items():
        rows = list(getattr(dataset, kind)())
        assert len(rows) == size
        assert not [r for r in rows if isinstance(r, Reject)]


def test_the_large_real_files_hold_what_is_published():
    assert load("movielens-1m", big("ml-1m")).sizes["events"]() == 999_611
    dataset = load("amazon-games", big("amazon-games"))
    assert (dataset.sizes["events"](), dataset.sizes["items"]()) == (453_637, 16_874)
