from __future__ import annotations

from dataclasses import replace

from services.gateway.draft import Draft, Place

PIN = "pin"


class PinSelector:
    """Puts pinned items at their positions of the whole list, the others between them in their order.

    Where the list ends before a pin's position, the pin ends the list.
    """

    name = "pins"

    def select(self, draft: Draft) -> Draft:
        start, size = draft.page.start, draft.query.page_size
        pins = {pin.position: pin.item_id for pin in draft.pins if pin.position >= start}
        if not pins:
            return draft
        others = iter(draft.places)
        places: list[Place] = []
        for position in range(start, start + size):
            pinned = pins.pop(position, None)
            other = next(others, None) if pinned is None else None
            if pinned is not None:
                places.append(Place(pinned, PIN))
            elif other is not None:
                places.append(other)
            elif pins:
                places.append(Place(pins.pop(min(pins)), PIN))
            else:
                break
        return replace(draft, places=tuple(places))
