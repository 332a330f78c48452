"""Last.fm-2k (HetRec 2011): user_artists.dat (user, artist, plays), artists.dat, user_friends.dat.

A row is a play count, not an event with a time, so two things are decided here and said in `notes`:

- action: an artist that a person played at least as often as their median artist is a `like`, the
  others a `click`; `value` is the play count. (The counts' scale differs by person, the median does not.)
- time: a stable draw from the year before the collection (2010-05-01 to 2011-05-01) by a hash of
  person and artist. The order it gives carries no information: use no sequence metric on it.

I. Cantador, P. Brusilovsky, T. Kuflik, "2nd HetRec workshop", RecSys 2011.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from statistics import median

from shared.datasets import fields, records
from shared.datasets.fields import TimeUnit
from shared.datasets.records import EventRules
from shared.datasets.rows import BadRow, Dataset, RawRow, Reject, Row, parse
from shared.datasets.sources import DelimitedText
from shared.domain import Action, Event, Item, Relation

_FROM_MS = 1272672000000  # 2010-05-01, UTC
_YEAR_MS = 365 * 24 * 3600 * 1000
_NOTES = (
    "the data hold no times: each event gets a stable synthetic one (a hash of person and artist, "
    "within 2010-05-01 to 2011-05-01); the order of a person's events means nothing",
    "an artist played at least as often as the person's median artist is a like, the others clicks; "
    "the value is the play count",
)


def lastfm(now_ms: int, folder: Path) -> Dataset:
    """1,892 people, 17,632 artists, 92,834 play counts, 25,434 friend pairs."""

    def table(name: str) -> DelimitedText:
        return DelimitedText(folder / name, delimiter="\t", quoted=False)

    def plays() -> Iterator[Row[Event] | Reject]:
        raw = table("user_artists.dat")
        columns = ("userID", "artistID", "weight")
        medians = _median_plays(raw.read(columns[::2]))
        build = records.event_builder(EventRules(now_ms, unit=TimeUnit.MILLISECONDS))

        def event(c: tuple[object, ...]) -> Event:
            count = _play_count(c[2])
            action = Action.LIKE if count >= medians[str(c[0])] else Action.CLICK
            return build(c[0], c[1], action, count, synthetic_time_ms(str(c[0]), str(c[1])))

        return parse(raw.read(columns), event)

    def artists() -> Iterator[Row[Item] | Reject]:
        raw = table("artists.dat").read(("id", "name"))
        return parse(raw, lambda c: records.item(c[0], title=c[1], created_ms=1))

    def friends() -> Iterator[Row[Relation] | Reject]:
        raw = table("user_friends.dat").read(("userID", "friendID"))
        return parse(raw, lambda c: records.relation(c[0], c[1], kind="friend"))

    sizes = {
        "events": table("user_artists.dat").count,
        "items": table("artists.dat").count,
        "relations": table("user_friends.dat").count,
    }
    return Dataset("lastfm", events=plays, items=artists, relations=friends, notes=_NOTES, sizes=sizes)


def synthetic_time_ms(user_id: str, item_id: str) -> int:
    """Milliseconds since the epoch: the same for the same pair, for ever."""
    digest = blake2b(f"{user_id}\x1f{item_id}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return _FROM_MS + int.from_bytes(digest, "big") % _YEAR_MS


def _play_count(cell: object) -> float:
    count = fields.number("weight", cell)
    if count < 1:
        raise fields.bad("weight", "must be at least 1 play", cell)
    return count


def _median_plays(rows: Iterator[RawRow | Reject]) -> Mapping[str, float]:
    """By person. Bad rows do not count; they are rejected when the events are read."""
    counts: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Reject):
            continue
        user, plays = row.cells
        try:
            count = _play_count(plays)
        except BadRow:
            continue
        counts[str(user)].append(count)
    return {user: float(median(values)) for user, values in counts.items()}
