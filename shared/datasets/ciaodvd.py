"""CiaoDVD: movie-ratings.txt (user, movie, genre, review, rating, date) and trusts.txt (who trusts whom).

Ratings become `rating` events at midnight UTC of their day, trusts relations of kind "trusts". Items
are known by their genre alone (the data hold no titles).

G. Guo et al., "ETAF: An Extended Trust Antecedents Framework for Trust Prediction", ASONAM 2014.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shared.datasets import records
from shared.datasets.fields import TimeUnit, is_code
from shared.datasets.records import EventRules
from shared.datasets.rows import BadRow, Dataset, Reject, Row, parse
from shared.datasets.sources import DelimitedText
from shared.domain import Action, Event, Item, Relation

# By genreID, from 1; from the data set's readme.
_GENRES = (
    "Action & Adventure",
    "Comedy",
    "Family",
    "Drama",
    "Horror",
    "Science Fiction & Fantasy",
    "Thriller & Mystery",
    "Martial Arts",
    "Musicals & Music Films",
    "War",
    "Westerns",
    "Documentaries & Biographies",
    "Special Interest",
    "Sports",
    "World Cinema",
    "TV Series",
    "Anime",
)
_NOTES = (
    "the data hold days, not times: events stand at midnight UTC, those of one day in the file's order",
    "the data hold no titles: items are known by their genre",
)


def ciaodvd(now_ms: int, folder: Path) -> Dataset:
    """72,665 ratings and 40,133 trust edges."""
    ratings = DelimitedText(
        folder / "movie-ratings.txt", header=("user", "movie", "genre", "review", "rating", "date")
    )
    trusts = DelimitedText(folder / "trusts.txt", header=("truster", "trustee", "value"))

    def events() -> Iterator[Row[Event] | Reject]:
        build = records.event_builder(EventRules(now_ms, unit=TimeUnit.ISO))
        raw = ratings.read(("user", "movie", "rating", "date"))
        return parse(raw, lambda c: build(c[0], c[1], Action.RATING, c[2], c[3]))

    def items() -> Iterator[Row[Item] | Reject]:
        """One item for each movie at its first rating; a bad rating row is the events' reject, not ours."""
        seen: set[object] = set()
        for row in ratings.read(("movie", "genre")):
            if isinstance(row, Reject) or row.cells[0] in seen:
                continue
            seen.add(row.cells[0])
            try:
                movie, genre = row.cells
                value = records.item(movie, categories=(_genre(genre),), created_ms=1)
            except BadRow as error:
                yield row.reject(str(error))
            else:
                yield Row(row.number, value, row.file)

    def relations() -> Iterator[Row[Relation] | Reject]:
        raw = trusts.read(("truster", "trustee", "value"))
        return parse(raw, lambda c: records.relation(c[0], c[1], kind="trusts", weight=c[2]))

    sizes = {"events": ratings.count, "relations": trusts.count}
    return Dataset("ciaodvd", events=events, items=items, relations=relations, notes=_NOTES, sizes=sizes)


def _genre(cell: object) -> str:
    code = str(cell).strip()
    if not is_code(code) or not 1 <= int(code) <= len(_GENRES):
        raise BadRow(f"genre must be 1..{len(_GENRES)}, got {cell!r}")
    return _GENRES[int(code) - 1]
