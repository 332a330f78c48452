"""MovieLens-100K (inside the recbole wheel) and MovieLens-1M (original files or Parquet).

Ratings become `rating` events. Ages become the bands of MovieLens-1M in both, zip codes their first
digit (a US region); an item's `created_ms` is the first of January of its release year, so that only
what is added later counts as fresh.

F. Maxwell Harper and Joseph A. Konstan, "The MovieLens Datasets: History and Context", TiiS 2015.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from shared.datasets import fields, records
from shared.datasets.records import EventRules
from shared.datasets.rows import BadRow, Dataset, DatasetError, Reject, Row, parse
from shared.datasets.sources import DelimitedText, Parquet, Source, SplitText
from shared.domain import Action, Event, Item, User

_WHEEL = "recbole"
_WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
_YEAR_IN_TITLE = re.compile(r"^(?P<title>.*\S)\s+\((?P<year>\d{4})\)$")

# Lower bounds and names of the age bands of MovieLens-1M, oldest first.
_AGE_BANDS = ((56, "56+"), (50, "50-55"), (45, "45-49"), (35, "35-44"), (25, "25-34"), (18, "18-24"))
_YOUNGEST = "under 18"
_OCCUPATIONS_1M = (
    "other",
    "educator",
    "artist",
    "clerical",
    "college student",
    "customer service",
    "doctor",
    "executive",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales",
    "scientist",
    "self-employed",
    "engineer",
    "craftsman",
    "unemployed",
    "writer",
)
_AGE_RATINGS = {
    "UNRATED": "Unrated",
    **{name: f"Rated {name}" for name in ("G", "PG", "PG-13", "R", "NC-17")},
}
# Columns of movies_extrainfos.dat that we read.
_EXTRA_HEADER = (
    "movie", "title", "year", "rated", "released", "genres", "director", "writers", "actors", "plot", "poster"
)  # fmt: skip


def movielens_100k(now_ms: int, folder: Path | None = None) -> Dataset:
    """943 people, 1,682 items, 100,000 ratings. `folder` holds ml-100k.inter; by default the wheel's."""
    root = folder or _wheel_folder()

    def table(ending: str) -> DelimitedText:
        return DelimitedText(root / f"ml-100k.{ending}", delimiter="\t", quoted=False, suffix_from=":")

    def events() -> Iterator[Row[Event] | Reject]:
        build = records.event_builder(EventRules(now_ms))
        raw = table("inter").read(("user_id", "item_id", "rating", "timestamp"))
        return parse(raw, lambda c: build(c[0], c[1], Action.RATING, c[2], c[3]))

    def items() -> Iterator[Row[Item] | Reject]:
        raw = table("item").read(("item_id", "movie_title", "release_year", "class"))
        return parse(raw, lambda c: _item(c[0], c[1], c[2], c[3], separator=" "))

    def users() -> Iterator[Row[User] | Reject]:
        raw = table("user").read(("user_id", "gender", "age", "occupation", "zip_code"))
        return parse(raw, lambda c: _user(c[0], c[1], c[2], c[3], c[4]))

    sizes = {"events": table("inter").count, "items": table("item").count, "users": table("user").count}
    return Dataset("movielens-100k", events=events, items=items, users=users, sizes=sizes)


def movielens_1m(now_ms: int, folder: Path) -> Dataset:
    """6,040 people, 3,883 items, a million ratings: ratings.dat or ratings.parquet, movies.dat, users.dat,
    and, where it is there, movies_extrainfos.dat for plots and age ratings (a category: "Rated PG-13")."""
    ratings = _ratings_1m(folder)
    movies = SplitText(folder / "movies.dat", ("movie", "title", "genres"))
    people = SplitText(folder / "users.dat", ("user", "gender", "age", "occupation", "zip"))

    def events() -> Iterator[Row[Event] | Reject]:
        build = records.event_builder(EventRules(now_ms))
        return parse(
            ratings.read(("user_id", "movie_id", "rating", "timestamp")),
            lambda c: build(c[0], c[1], Action.RATING, c[2], c[3]),
        )

    def items() -> Iterator[Row[Item] | Reject]:
        known = _extras(folder / "movies_extrainfos.dat")
        raw = SplitText(folder / "movies.dat", ("movie", "title", "genres")).read(
            ("movie", "title", "genres")
        )

        def build(c: tuple[object, ...]) -> Item:
            titled = _YEAR_IN_TITLE.match(str(c[1]).strip())
            title, year = (titled["title"], titled["year"]) if titled else (c[1], "")
            rated, plot = known.get(str(c[0]), ("", ""))
            genres = f"{c[2]}|{rated}" if rated else c[2]
            return _item(c[0], title, year, genres, separator="|", plot=plot)

        return parse(raw, build)

    def users() -> Iterator[Row[User] | Reject]:
        raw = people.read(people.header)
        return parse(raw, lambda c: _user(c[0], c[1], c[2], _occupation_1m(c[3]), c[4]))

    sizes = {"events": ratings.count, "items": movies.count, "users": people.count}
    return Dataset("movielens-1m", events=events, items=items, users=users, sizes=sizes)


def _wheel_folder() -> Path:
    """The data folder inside the installed wheel, found by its metadata: importing it would need PyTorch."""
    hint = (
        "MovieLens-100K travels inside the wheel recbole==1.2.1; install it without its dependencies: "
        "pip install --no-deps recbole==1.2.1 (`make setup` does)"
    )
    try:
        wheel = distribution(_WHEEL)
    except PackageNotFoundError:
        raise DatasetError(hint) from None
    folder = Path(str(wheel.locate_file(_WHEEL_FOLDER)))
    if not (folder / "ml-100k.inter").is_file():
        raise DatasetError(f"{folder} holds no ml-100k.inter. {hint}")
    return folder


def _ratings_1m(folder: Path) -> Source:
    original, parquet = folder / "ratings.dat", folder / "ratings.parquet"
    if original.is_file():
        return SplitText(original, ("user_id", "movie_id", "rating", "timestamp"))
    if parquet.is_file():
        return Parquet(parquet)
    raise DatasetError(
        f"{folder} holds neither ratings.dat nor ratings.parquet; "
        "give --path the folder of the unpacked MovieLens-1M archive"
    )


def _extras(path: Path) -> dict[str, tuple[str, str]]:
    """By movie its age rating as a category and its plot, "" where it has none."""
    if not path.is_file():
        return {}
    rows = SplitText(path, _EXTRA_HEADER, encoding="utf-8").read(("movie", "rated", "plot"))
    known = (tuple(map(str, row.cells)) for row in rows if not isinstance(row, Reject))
    return {
        movie: (_AGE_RATINGS.get(rated, ""), plot if plot != "N/A" else "") for movie, rated, plot in known
    }


def _item(
    item_id: object, title: object, year: object, genres: object, *, separator: str, plot: str = ""
) -> Item:
    released = fields.text("release_year", year)
    named = fields.text("movie_title", title)
    # The year belongs to the title, as MovieLens writes it: the text encoder reads it from there (a linear
    # map finds the year in the embeddings with R² .83, without it not at all), and taste goes by era.
    return records.item(
        item_id,
        title=f"{named} ({released})" if named and fields.is_code(released) else named,
        description=plot,
        categories=genres,
        attributes={"year": released},
        created_ms=_year_start_ms(released),
        separator=separator,
    )


def _year_start_ms(year: str) -> int:
    """Films from before the epoch, or of an unknown year, get its first millisecond: 0 would mean now."""
    if not fields.is_code(year) or not 1970 <= int(year) <= 9999:
        return 1
    return max(1, round(datetime(int(year), 1, 1, tzinfo=UTC).timestamp() * 1000))


def _user(user_id: object, gender: object, age: object, occupation: object, zip_code: object) -> User:
    years = fields.number("age", age)
    band = next((name for bound, name in _AGE_BANDS if years >= bound), _YOUNGEST)
    region = fields.text("zip_code", zip_code)[:1]
    return records.user(
        user_id,
        {
            "gender": gender,
            "age_group": band,
            "occupation": occupation,
            "region": region if region.isdigit() else "",
        },
    )


def _occupation_1m(cell: object) -> str:
    code = fields.text("occupation", cell)
    if not fields.is_code(code) or int(code) >= len(_OCCUPATIONS_1M):
        raise BadRow(f"occupation must be 0..{len(_OCCUPATIONS_1M) - 1}, got {code!r}")
    return _OCCUPATIONS_1M[int(code)]
