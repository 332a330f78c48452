"""For how many days things are kept, as settings say it: one number, or others by domain."""

from __future__ import annotations

from collections.abc import Mapping

_ALL = ""
MAX_DAYS = 36_500


def days_by_domain(text: str) -> Mapping[str, int]:
    """`400,news=30` → {"": 400, "news": 30}. Raises ValueError with the rule and the part that breaks it."""
    days: dict[str, int] = {}
    for part in (p.strip() for p in text.split(",")):
        name, equals, count = part.rpartition("=")
        if not count.strip().isdecimal() or int(count) > MAX_DAYS or (equals and not name.strip()):
            raise ValueError(f"must be 0..{MAX_DAYS} days, or DOMAIN=DAYS, separated by commas, got {part!r}")
        if name.strip() in days:
            raise ValueError(f"must say days once for each domain, got {part!r} beside another")
        days[name.strip()] = int(count)
    return days


def days_of(text: str, domain: str) -> int:
    """What `days_by_domain` says of one domain; 0 where it says nothing."""
    days = days_by_domain(text)
    return days.get(domain, days.get(_ALL, 0))
