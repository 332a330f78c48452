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
        user_id, events = draft.person.context.user_id, query.events
        if query.ephemeral:
            events = tuple(replace(event, user_id=user_id) for event in events)
        person = await self._features.person(query.domain, user_id, events, query.context)
        person = replace(person, seen=person.seen | query.acted_on)
        return replace(draft, person=person, person_known=True)
