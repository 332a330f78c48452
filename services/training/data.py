"""What training reads: everybody's events as flat columns, one run of them a person.

Built by `services.training.assemble`; features as of a moment come from `services.training.asof`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.context.labels import signed_labels
from shared.domain import Action, FloatArray, IntArray, TimeArray
from shared.holdout import Role

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Relations as rows: person u's are at `offsets[u]:offsets[u+1]`.

    offsets: [U+1] int64; users: [R] int32, the other people; weights: [R] float32 in (0, 1];
    since_ms: [R] int64, when the relation began (0 = always).
    """

    offsets: Int64Array
    users: IntArray
    weights: FloatArray
    since_ms: TimeArray

    @classmethod
    def none(cls, num_users: int) -> Neighbours:
        """Nobody knows anybody."""
        empty = np.zeros(0, np.int32)
        return cls(np.zeros(num_users + 1, np.int64), empty, np.zeros(0, np.float32), np.zeros(0, np.int64))

    def select(self, keep: BoolArray) -> Neighbours:
        """Relations among the kept people alone, renumbered. keep: [U] bool."""
        number = np.cumsum(keep) - 1
        owner = np.repeat(np.arange(len(keep)), np.diff(self.offsets))
        stays = keep[owner] & keep[self.users] if len(owner) else np.zeros(0, np.bool_)
        counts = np.bincount(owner[stays], minlength=len(keep))[keep]
        return Neighbours(
            offsets_of(counts),
            number[self.users[stays]].astype(np.int32),
            self.weights[stays],
            self.since_ms[stays],
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Events of U people on N items, E in all, impressions left out.

    user_ids    [U]            sorted; person u's events are at `offsets[u]:offsets[u+1]`
    item_ids    [N]            sorted; an item's place here is its row in every table
    offsets     [U+1] int64
    items       [E]   int32    rows of `item_ids`
    actions     [E]   int32    `Action` numbers
    values      [E]   float32
    time_ms     [E]   int64    per person oldest first; ties keep the order of the log
    attributes  [U, PROFILE_DIM] float32   hashed profiles
    profiles    [U]            the profiles themselves
    content     [N, content_dim] float32   unit length, zeros for items without text
    neighbours                 relations
    roles       [U]   int8     `Role` numbers
    titles, categories [N]     for reports and the artifact
    blind                      whether models are told which items people chose and not what they said of
                               them, as most sequence models are; what they are asked for stays as it is
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    offsets: Int64Array
    items: IntArray
    actions: IntArray
    values: FloatArray
    time_ms: TimeArray
    attributes: FloatArray
    profiles: tuple[Mapping[str, str], ...]
    content: FloatArray
    neighbours: Neighbours
    roles: NDArray[np.int8]
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    blind: bool = False

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_events(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> Int64Array:
        """[U] int64: events of each person."""
        return np.diff(self.offsets)

    @property
    def labels(self) -> FloatArray:
        """[E] float32: signed label of each event."""
        return signed_labels(self.actions, self.values)

    def told(self, places: NDArray[Any]) -> tuple[IntArray, FloatArray]:
        """Actions int32 and values float32 of the events at the places, as models are told them."""
        if self.blind:
            return np.full(places.shape, int(Action.VIEW), np.int32), np.zeros(places.shape, np.float32)
        return self.actions[places], self.values[places]

    @property
    def owners(self) -> IntArray:
        """[E] int32: whose event it is."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), self.lengths)

    def users_of(self, *roles: Role) -> IntArray:
        """Numbers of the people with one of the roles, ascending. int32."""
        return np.flatnonzero(np.isin(self.roles, [int(r) for r in roles])).astype(np.int32)

    def popularity(self, *roles: Role) -> FloatArray:
        """Events on each item by people of the roles (TRAIN where none is named). [N] float32."""
        among = np.isin(self.roles, [int(r) for r in roles or (Role.TRAIN,)])
        counted = np.bincount(self.items[among[self.owners]], minlength=self.num_items)
        return counted.astype(np.float32)

    def select_users(self, keep: BoolArray) -> TrainingData:
        """The same with the kept people alone: nothing of the others remains. keep: [U] bool."""
        events = keep[self.owners]
        return replace(
            self,
            user_ids=tuple(u for u, k in zip(self.user_ids, keep, strict=True) if k),
            profiles=tuple(p for p, k in zip(self.profiles, keep, strict=True) if k),
            offsets=offsets_of(self.lengths[keep]),
            items=self.items[events],
            actions=self.actions[events],
            values=self.values[events],
            time_ms=self.time_ms[events],
            attributes=self.attributes[keep],
            neighbours=self.neighbours.select(keep),
            roles=self.roles[keep],
        )

    def without_held_out(self) -> TrainingData:
        """What training may see: everything but the held-out people and their relations.

        Items stay as they are, so that rows keep their numbers.
        """
        return self.select_users(self.roles != Role.HELD_OUT)

    def hold_out_items(self, item_numbers: IntArray) -> tuple[TrainingData, HeldOutItems]:
        """Takes items out of catalogue and events, as if they had never existed.

        Returns:
            The data of the other items (rows renumbered, everybody keeps their place), and
            what was taken out, for evaluation.
        """
        gone = np.zeros(self.num_items, np.bool_)
        gone[item_numbers] = True
        out = gone[self.items]
        number = np.cumsum(~gone) - 1
        rest = replace(
            self,
            item_ids=tuple(i for i, g in zip(self.item_ids, gone, strict=True) if not g),
            titles=tuple(t for t, g in zip(self.titles, gone, strict=True) if not g),
            categories=tuple(c for c, g in zip(self.categories, gone, strict=True) if not g),
            content=self.content[~gone],
            offsets=offsets_of(np.bincount(self.owners[~out], minlength=self.num_users)),
            items=number[self.items[~out]].astype(np.int32),
            actions=self.actions[~out],
            values=self.values[~out],
            time_ms=self.time_ms[~out],
        )
        place = np.cumsum(gone) - 1
        taken = HeldOutItems(
            item_ids=tuple(i for i, g in zip(self.item_ids, gone, strict=True) if g),
            titles=tuple(t for t, g in zip(self.titles, gone, strict=True) if g),
            content=self.content[gone],
            users=self.owners[out],
            items=place[self.items[out]].astype(np.int32),
            labels=self.labels[out],
            time_ms=self.time_ms[out],
        )
        return rest, taken

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """The numeric columns by name (relations excepted)."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutItems:
    """M items that training never saw, and what people did to them.

    item_ids, titles [M]; content [M, content_dim] float32;
    users [H] int32 (numbers in the TrainingData), items [H] int32 (0..M-1), labels [H] float32
    (signed), time_ms [H] int64: the H events on them.
    """

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    content: FloatArray
    users: IntArray
    items: IntArray
    labels: FloatArray
    time_ms: TimeArray


def offsets_of(counts: NDArray[Any]) -> Int64Array:
    """[n] counts → [n+1] int64 where each run begins and the last one ends."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
