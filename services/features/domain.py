"""One domain of the feature service: its store, its mirror and what can be asked of them."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from services.features.catalogue import Catalogue
from services.features.extraction.extractor import ExtractedUser, ExtractionLimits, Extractor
from services.features.mirror import ItemMirror
from services.features.retention_days import days_of
from services.features.settings import FeatureSettings
from services.features.store.connection import Store
from services.features.store.erased_bytes import ErasedBytes
from services.features.store.events import AppendStatus, EventLimits, EventWriter
from services.features.store.export import EventSpan, Exporter
from services.features.store.held import HeldReader
from services.features.store.items import ItemStore
from services.features.store.keys import DomainKeys
from services.features.store.lifecycle import Lifecycle
from services.features.store.packing import Packer
from services.features.store.people import People, PersonStatus
from services.features.store.person_export import ExportPage, PersonExporter, Place
from services.features.store.relations import Relations
from services.features.store.retention import Retention, RetentionDays
from services.features.store.schema import Schema, open_domain
from services.features.store.trending import Trending
from services.features.store.watermark import LogAlarm
from services.features.store.withdrawals import Withdrawals
from shared.content import CONTENT_DIM, TextEncoder
from shared.domain import Action, Event, Relation, RequestContext, User

_EVENTS_A_MESSAGE = 2000
_DAY_MS = 24 * 3600 * 1000
# What weighs less beside the first does not trend, and would be 0 in 32 bits: chosen decades ago.
_LEAST_SHARE = 1e-30
# Deleted and unavailable items are left out of a trending list, so more are read than asked for.
_TRENDING_SPARE = 2


@dataclass(frozen=True, slots=True)
class Tools:
    """What all domains of a server share."""

    store: Store
    encoder: TextEncoder
    threads: Executor
    clock: Callable[[], int]
    trimmed: Counter
    expired: Counter
    erased_age: Gauge


@dataclass(frozen=True, slots=True)
class TrendingItems:
    """What is trending, best first: (item, weight relative to the first's); the first's own weight as of now,
    0 where there is none, and that of all items, listed or not; seconds after which an event counts half."""

    items: Sequence[tuple[str, float]]
    first_weight: float
    total_weight: float
    half_life_s: float


@dataclass(frozen=True, slots=True)
class DomainFeatures:
    """Everything the service does for one domain."""

    name: str
    schema: Schema
    keys: DomainKeys
    store: Store
    writer: EventWriter
    people: People
    relations: Relations
    lifecycle: Lifecycle
    withdrawals: Withdrawals
    erased_bytes: ErasedBytes
    retention: Retention
    person_exporter: PersonExporter
    catalogue: Catalogue
    exporter: Exporter
    trending: Trending
    mirror: ItemMirror
    extractor: Extractor
    clock: Callable[[], int]
    log_retention_days: int

    @classmethod
    async def open(cls, name: str, settings: FeatureSettings, tools: Tools) -> DomainFeatures:
        """Opens the domain's keys, holds its catalogue, starts following."""
        store = tools.store
        schema = await open_domain(
            store,
            name,
            num_shards=settings.shards,
            secret=settings.deletion_secret.get_secret_value(),
        )
        keys = DomainKeys(name, schema.num_shards)
        alarm = LogAlarm(store, keys, log_cap=settings.log_events, trimmed=tools.trimmed)
        writer = EventWriter(store, keys, schema, _event_limits(settings), alarm)
        people = People(store, keys, schema)
        relations = Relations(store, keys, schema, max_relations=settings.max_relations)
        items = ItemStore(store, keys, max_changes=settings.item_changes)
        mirror = ItemMirror(store, items, keys, schema, content_dim=CONTENT_DIM)
        trending = Trending(
            store,
            keys,
            half_life_s=int(settings.trending_half_life_hours * 3600),
            max_items=settings.trending_items,
        )
        held = HeldReader(store, keys)
        withdrawals = Withdrawals(store, keys, trending)
        erased = ErasedBytes(
            store, keys, Packer(store, keys), hours=settings.rewrite_hours, age=tools.erased_age
        )
        lifecycle = Lifecycle(
            store, keys, schema, writer, relations, held, withdrawals, erased, limits=_event_limits(settings)
        )
        await mirror.start()
        trending.start()
        withdrawals.start()
        return cls(
            name=name,
            schema=schema,
            keys=keys,
            store=store,
            writer=writer,
            people=people,
            relations=relations,
            lifecycle=lifecycle,
            withdrawals=withdrawals,
            erased_bytes=erased,
            retention=Retention(
                store, keys, lifecycle, erased, _retention_days(settings, name), tools.expired
            ),
            person_exporter=PersonExporter(store, keys, held),
            catalogue=Catalogue(items, mirror, trending, tools.encoder, tools.threads, clock=tools.clock),
            exporter=Exporter(store, keys, schema),
            trending=trending,
            mirror=mirror,
            extractor=Extractor(
                store, people, items, mirror, _extraction_limits(settings), content_dim=CONTENT_DIM
            ),
            clock=tools.clock,
            log_retention_days=settings.log_retention_days,
        )

    async def close(self) -> None:
        await self.writer.close()
        await self.retention.close()
        await self.withdrawals.close()
        await self.trending.close()
        await self.mirror.close()

    async def record(self, events: Sequence[Event]) -> list[AppendStatus]:
        """Appends durably; what people did to an item for the first time counts for trending, whether or not
        the caller waits for the answer. Events from before what is kept are not stored."""
        old = self._too_old(events)
        kept = [event for event, too_old in zip(events, old, strict=True) if not too_old]
        stored = iter(await self.writer.append(kept, stored=self._count))
        return [AppendStatus.TOO_OLD if too_old else next(stored) for too_old in old]

    async def context(self, user_id: str, carried: Sequence[Event], request: RequestContext) -> ExtractedUser:
        return await self.extractor.extract(user_id, carried, request)

    async def trending_items(self, limit: int) -> TrendingItems:
        """Of items that are in the catalogue and available."""
        table = self.mirror.table
        ranked, of_all = await self.trending.top(_TRENDING_SPARE * limit, now_ms=self.clock())
        kept = [(item_id, log_weight) for item_id, log_weight in ranked if table.available(item_id)][:limit]
        gone = sum(2.0**log_weight for item_id, log_weight in ranked if not table.available(item_id))
        best = kept[0][1] if kept else -math.inf
        shares = [(item_id, 2.0 ** (log_weight - best)) for item_id, log_weight in kept]
        relative = [(item_id, weight) for item_id, weight in shares if weight > _LEAST_SHARE]
        first = 2.0**best
        # what earlier versions counted is in no sum of all
        total = max(2.0**of_all - gone, first * sum(weight for _, weight in relative))
        return TrendingItems(relative, first, total, self.trending.half_life_s)

    async def describe(self, users: Sequence[User]) -> list[PersonStatus]:
        return await self.people.describe(users)

    async def relate(self, relations: Sequence[Relation]) -> list[PersonStatus]:
        return await self.relations.relate(relations)

    async def fold(self, source: str, target: str) -> int:
        return await self.lifecycle.fold(source, target, now_ms=self.clock())

    async def erase(self, user_id: str) -> bool:
        return await self.lifecycle.erase(user_id, now_ms=self.clock())

    async def erased(self, user_ids: Sequence[str]) -> list[tuple[str, int]]:
        """(person, when) of those that have been erased, in order."""
        hashes = [("HGET", self.keys.shard(u).gone, self.schema.keyed_hash(u)) for u in user_ids]
        found = zip(user_ids, await self.store.run(hashes), strict=True)
        return [(user_id, int(float(at))) for user_id, at in found if at is not None]

    async def export_person(self, user_id: str, after: Place, rows: int) -> ExportPage:
        return await self.person_exporter.page(user_id, after, rows)

    def export_events(self, span: EventSpan) -> AsyncGenerator[list[Event], None]:
        return self.exporter.events(span, batch=_EVENTS_A_MESSAGE)

    async def maintain(self) -> None:
        """Finishes what crashed servers left, takes out what is kept no longer, trims what was exported and
        is old."""
        await self.lifecycle.repair(now_ms=self.clock())
        await self.retention.sweep(now_ms=self.clock())
        if self.log_retention_days:
            await self.exporter.trim(before_ms=self.clock() - self.log_retention_days * _DAY_MS)

    async def rewrite_files(self) -> None:
        """A step of having the store rewrite its files, where they may hold erased bytes for too long."""
        await self.erased_bytes.rewrite_if_due(now_ms=self.clock())

    def _count(self, events: Sequence[Event], statuses: Sequence[AppendStatus]) -> None:
        first = AppendStatus.RECORDED
        self.trending.add([e for e, s in zip(events, statuses, strict=True) if s is first])

    def _too_old(self, events: Sequence[Event]) -> list[bool]:
        oldest = self.retention.oldest_ms(impressions=False, now_ms=self.clock())
        oldest_shown = self.retention.oldest_ms(impressions=True, now_ms=self.clock())
        return [e.time_ms < (oldest_shown if e.action is Action.IMPRESSION else oldest) for e in events]


def _retention_days(settings: FeatureSettings, domain: str) -> RetentionDays:
    return RetentionDays(
        days_of(settings.event_retention_days, domain),
        days_of(settings.impression_retention_days, domain),
        days_of(settings.idle_retention_days, domain),
    )


def _event_limits(settings: FeatureSettings) -> EventLimits:
    return EventLimits(
        history=settings.history_events,
        seen=settings.seen_items,
        dedupe=settings.dedupe_events,
        log=settings.log_events,
        impressions=settings.impression_events,
    )


def _extraction_limits(settings: FeatureSettings) -> ExtractionLimits:
    return ExtractionLimits(
        history=settings.history_events,
        seen=settings.seen_items,
        neighbours=settings.neighbours,
        neighbour_events=settings.neighbour_events,
    )
