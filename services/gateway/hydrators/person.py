from __future__ import annotations

from dataclasses import replace

from services.gateway.draft import Draft
from services.gateway.ports import Features


class PersonHydrator:
    """History, profiles, seen items and neighbours' likes, as of now. Without it the draft knows only the
    events that the request brings."""

    name = "features"

    def __init__(self, features: Features) -> None:
        self._features = features

    async def hydrate(self, draft: Draft) -> Draft:
        query = draft.query
        person = await self._features.person(query.domain, query.user_id, query.events, query.context)
        person = replace(person, seen=person.seen | query.acted_on)
        return replace(draft, person=person, person_known=True)
