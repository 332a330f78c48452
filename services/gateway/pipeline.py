"""The whole of a request for a list, from top to bottom."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from services.gateway.answers import Answer, impressions, listed
from services.gateway.catalogue.details import ItemDetails
from services.gateway.catalogue.follower import Catalogue
from services.gateway.draft import Draft, Found, Page, Person, Rung
from services.gateway.fallbacks import Fallback
from services.gateway.filters import Filter, keep_all
from services.gateway.hydrators import Hydrator
from services.gateway.hydrators.adapted import AdaptedHydrator
from services.gateway.hydrators.recent_items import RecentItemsHydrator
from services.gateway.impressions import ImpressionLog
from services.gateway.last_good import LastGoodLists
from services.gateway.metrics import ListMetrics
from services.gateway.models import ServingModels
from services.gateway.notes import Notes
from services.gateway.query import NO_FILTER, ListQuery
from services.gateway.reasons import reasons
from services.gateway.scorers import Scorer
from services.gateway.selectors import Selector
from services.gateway.sources import Source
from services.gateway.tokens import PageTokens
from shared.errors import EmptyCatalogue, InvalidInput, ModelNotHeld

Step = Callable[[Draft, Notes], Awaitable[Draft]]


@dataclass(frozen=True, slots=True)
class Stages:
    """What a list goes through, in this order. A new stage is one file and one row in `app.py`."""

    hydrators: Sequence[Hydrator]
    sources: Sequence[Source]
    filters: Sequence[Filter]
    scorers: Sequence[Scorer]
    fallbacks: Sequence[Fallback]
    selectors: Sequence[Selector]


@dataclass(frozen=True, slots=True)
class _Moments:
    """As a list was begun: who is forgotten after it has no part in what is kept of the list."""

    last_good: int
    impressions: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Makes lists. `exploration_rate`: where a request names none; `max_list_items`: over all pages."""

    stages: Stages
    adapted: AdaptedHydrator
    recent_items: RecentItemsHydrator
    models: ServingModels
    catalogue: Catalogue
    details: ItemDetails
    tokens: PageTokens
    last_good: LastGoodLists
    impressions: ImpressionLog
    metrics: ListMetrics
    exploration_rate: float
    max_list_items: int
    clock: Callable[[], float] = time.time

    async def recommend(self, query: ListQuery) -> Answer:
        """A list for this person, whatever fails behind the gateway.

        Raises InvalidInput (page_token, task_weights) and EmptyCatalogue, nothing else.
        """
        draft, notes = self._begin(query), Notes()
        begun = _Moments(self.last_good.moment, self.impressions.moment)

        for hydrator in self.stages.hydrators:
            with notes.stage(hydrator.name):
                draft = await hydrator.hydrate(draft)

        draft = await self._with_held_model(self._find, draft.with_hidden(), notes)

        with notes.stage("filters"):
            kept = keep_all(self.stages.filters, draft, draft.candidates, notes.failed)
            draft = replace(draft, candidates=kept)

        draft = await self._with_held_model(self._score, draft, notes)

        for fallback in self.stages.fallbacks:
            if self._ranked(draft, notes):
                break
            with notes.stage(fallback.name):
                draft = self._filtered(fallback.fall(draft), notes)

        for selector in self.stages.selectors:
            with notes.stage(selector.name):
                draft = selector.select(draft)

        if query.include_items:
            draft = await self._described(draft, notes)

        items = listed(draft, reasons(draft, self.catalogue.of(draft.domain)))
        answer = Answer.of(draft, items, notes, self._next_token(draft))
        asyncio.get_running_loop().call_soon(self._after, draft, answer, begun)
        return answer

    def _after(self, draft: Draft, answer: Answer, begun: _Moments) -> None:
        """What nobody waits for: done once the answer is on its way. Of an ephemeral list nothing is kept."""
        if not draft.query.ephemeral:
            shown = impressions(draft, answer.items)
            self.impressions.offer(draft.domain, shown, since=begun.impressions)
            self._keep(draft, begun.last_good)
        self.metrics.note(draft.domain, answer)

    def _begin(self, query: ListQuery) -> Draft:
        page = self.tokens.open(query) if query.page_token else Page(uuid.uuid4().hex)
        mirror = self.catalogue.of(query.domain)
        if mirror.complete and not mirror.num_available:
            raise EmptyCatalogue(
                f"domain {query.domain!r} has no available items: store some with UpsertItems"
                " (lists know them within a second)"
            )
        self._check_tasks(query)
        rate = self.exploration_rate if query.exploration_rate is None else query.exploration_rate
        return Draft(
            query,
            page,
            Person.from_request(query, page.list_id),
            int(self.clock() * 1000),
            pins=tuple(pin for pin in query.pins if mirror.is_available(pin.item_id)),
            exploration_rate=0.0 if query.candidate_item_ids else rate,
            person_known=query.ephemeral,  # by what they bring, which is all that counts
        )

    def _check_tasks(self, query: ListQuery) -> None:
        model = self.models.choose(query.domain)
        if model is None or not query.task_weights:
            return
        known = [task.name for task in model.tasks]
        for name, weight in query.task_weights.items():
            if name not in known:
                raise InvalidInput.of(
                    f"task_weights[{name!r}]", f"must be of a task: {', '.join(known)}", weight
                )

    async def _with_held_model(self, step: Step, draft: Draft, notes: Notes) -> Draft:
        """The step; where its model version is no longer held, once more after adapting by one that is."""
        try:
            return await step(draft, notes)
        except ModelNotHeld as error:
            held = error.held
        with notes.stage(self.adapted.name):
            return await step(await self.adapted.again(draft, held), notes)
        # No version is held by both: likeness to recent items needs scoring alone.
        draft = replace(draft, taste=None, model=None, rung=Rung.TRENDING)
        return await step(await self.recent_items.hydrate(draft), notes)

    async def _find(self, draft: Draft, notes: Notes) -> Draft:
        """All sources, side by side but for those that come last. An item is of the first that found it."""
        found: dict[str, Sequence[Found]] = {}

        async def find(source: Source, draft: Draft) -> None:
            with notes.stage(source.name, passing=(ModelNotHeld,)):
                found[source.name] = await source.find(draft)

        for last in (False, True):
            sources = [source for source in self.stages.sources if source.comes_last is last]
            await asyncio.gather(*(find(source, draft) for source in sources))
            parts = (found.get(source.name, ()) for source in self.stages.sources)
            draft = draft.with_found(tuple(chain.from_iterable(parts)))
        return draft

    async def _score(self, draft: Draft, notes: Notes) -> Draft:
        for scorer in self.stages.scorers:
            with notes.stage(scorer.name, passing=(ModelNotHeld,)):
                draft = await scorer.score(draft)
        return draft

    def _ranked(self, draft: Draft, notes: Notes) -> bool:
        """False also for a ranking that is empty because its sources failed."""
        if draft.ranking is None:
            return False
        failed = notes.has_failed(source.name for source in self.stages.sources)
        return bool(draft.ranking.item_ids) or not failed

    def _filtered(self, draft: Draft, notes: Notes) -> Draft:
        """What a fallback came up with goes through the same filters."""
        if draft.ranking is None:
            return draft
        kept = keep_all(self.stages.filters, draft, draft.candidates, notes.failed)
        return replace(draft, candidates=kept, ranking=draft.ranking.only(kept))

    async def _described(self, draft: Draft, notes: Notes) -> Draft:
        """With the metadata of its items; from the mirror where features are away."""
        ids = [place.item_id for place in draft.places]
        draft = replace(draft, items=self.details.mirrored(draft.domain, ids))
        with notes.stage("items"):
            return replace(draft, items={**draft.items, **await self.details.stored(draft.domain, ids)})
        return draft

    def _keep(self, draft: Draft, moment: int) -> None:
        """Remembers a whole list of what the person has done, for the ladder's third rung."""
        query = draft.query
        plain = not (query.candidate_item_ids or query.events or query.page_token or query.disable_adaptation)
        if plain and query.filter == NO_FILTER and draft.ranking and draft.rung <= Rung.RECENT_ITEMS:
            self.last_good.keep(query.domain, query.user_id, draft.ranking, since=moment)

    def _next_token(self, draft: Draft) -> str:
        """Empty where nothing is left to show, or the list is as long as lists get."""
        placed = [place.item_id for place in draft.places]
        left = len(set(draft.candidates).difference(placed))
        end = draft.page.start + len(placed)
        if not placed or not left or end >= self.max_list_items:
            return ""
        return self.tokens.issue(draft.query, draft.page, placed)
