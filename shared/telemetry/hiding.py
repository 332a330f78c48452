"""What logs do not say: who people are, and secrets.

A person's id becomes a pseudonym, a keyed hash: the same in every line of all servers that have the same key,
so that one person can be followed, and nobody can find out by trying ids who it is. Without a key a hash of
ids that are numbers or addresses would be undone in seconds.

Errors tell their callers which value broke a rule. In logs the value of a text field is hidden unless the
field is known to hold nothing of a person's. Besides, whatever people the request being served names are
hidden in every line logged for it. Secrets are kept out by their type (`SecretStr`); what looks like one all
the same is hidden as a backstop.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

HIDDEN = "[hidden]"
_DIGITS = 12
# Fields of requests and settings whose text says nothing of a person.
SHOWN_FIELDS = frozenset((
    "domain", "item_id", "item_ids", "action", "task", "tasks", "version", "model_version", "training_id",
    "surface", "device", "category", "categories", "adapter", "preset", "name", "runs", "registry", "run",
    "scope",
))  # fmt: skip
# What stands where a request's field would: a variable or option, a file.
_NO_FIELD = re.compile(r"[A-Z][A-Z0-9_]+|--[a-z-]+|\S*[./]\S*:")
_PEOPLE_KEYS = re.compile(r"(^|_)(user|person|people)(_?ids?)?$")
_SECRET_KEYS = re.compile(r"secret|passw|token|authorization|credential|api_?key|private_?key", re.IGNORECASE)
_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S), HIDDEN),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\bwsk_[0-9a-f]+_[\w-]+"), HIDDEN),  # a key of `warmstart keys`
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), HIDDEN),  # a JSON web token
    (re.compile(r"(://)[^/\s@'\"]+@"), rf"\1{HIDDEN}@"),  # user and password of a URL
)
# The value at the end of "field rule, got value", as `shared.errors.violation` shows it.
_CUT = r"(?:b['\"].{78}|['\"].{79})… \(\d+ characters\)"
_QUOTED = r"b?(?P<quote>['\"])(?:\\.|(?!(?P=quote)).)*(?:(?P=quote)|$)"
_VALUE = re.compile(rf", got (?P<value>{_CUT}|{_QUOTED}|[^;\n]+)", re.S)
_PLAIN = re.compile(r"-?[\d.,e+-]+|None|True|False|nan|-?inf")
# Shorter ids are hidden where they stand in quotes, as errors show them: elsewhere they are parts of words.
_LONG_ENOUGH = 8


class _Served:
    """The people whom the request being served names, found when a line is logged."""

    __slots__ = ("people",)

    def __init__(self, people: Callable[[], Iterable[str]]) -> None:
        self.people: Callable[[], Iterable[str]] | None = people


_SERVED: ContextVar[_Served | None] = ContextVar("warmstart_served_people", default=None)


@contextmanager
def people_served(people: Callable[[], Iterable[str]]) -> Iterator[None]:
    """While this request is served. What goes on afterwards for it keeps no hold of the request."""
    served = _Served(people)
    token = _SERVED.set(served)
    try:
        yield
    finally:
        served.people = None
        _SERVED.reset(token)


@dataclass(frozen=True, slots=True)
class Hiding:
    """A structlog processor: put it last before the renderer, with exceptions as text or dicts by then."""

    key: bytes

    @classmethod
    def by(cls, secret: str) -> Hiding:
        """secret: the same for all servers whose lines belong together; "" = a random one."""
        return cls((secret or secrets.token_hex()).encode())

    def pseudonym(self, person: str) -> str:
        """Such as "person:3f9a1c0b77de"."""
        return f"person:{hmac.new(self.key, person.encode(errors='replace'), 'sha256').hexdigest()[:_DIGITS]}"

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        served = _SERVED.get()
        people = served.people if served is not None else None
        ids = sorted(filter(None, people()), key=len, reverse=True) if people is not None else []
        for name, value in event.items():
            if name not in ("_record", "_from_structlog"):  # the standard library's own
                event[name] = self._hidden(name, value, ids)
        return event

    def text(self, said: str, people: Iterable[str] = ()) -> str:
        """`said` without the people, values of people's fields and secrets."""
        for person in people:
            name = self.pseudonym(person)
            said = said.replace(repr(person), repr(name)).replace(f'"{person}"', f'"{name}"')
            if len(person) >= _LONG_ENOUGH:
                said = said.replace(person, name)
        said = self._without_values(said) if ", got " in said else said
        for looks, instead in _SECRETS:
            said = looks.sub(instead, said)
        return said

    def _hidden(self, name: str, value: Any, people: list[str]) -> Any:
        if _SECRET_KEYS.search(name) and not isinstance(value, int):  # counts of refusals are no secrets
            return HIDDEN
        if isinstance(value, dict):
            return {key: self._hidden(str(key), inner, people) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._hidden(name, inner, people) for inner in value]
        if isinstance(value, str) and _PEOPLE_KEYS.search(name):
            return value if value.startswith("person:") else self.pseudonym(value)
        if isinstance(value, str | bytes | BaseException):
            return self.text(value if isinstance(value, str) else str(value), people)
        return value

    def _without_values(self, said: str) -> str:
        kept, at = "", 0
        for found in _VALUE.finditer(said):
            kept += said[at : found.start("value")]
            value = found["value"]
            kept += value if _is_shown(kept, value) else self._instead(value)
            if found["quote"] and value[-1] != found["quote"]:  # cut short: where it ends cannot be told
                return kept
            at = found.end()
        return kept + said[at:]

    def _instead(self, value: str) -> str:
        if value.startswith(("'person:", "person:")):
            return value
        quoted = value[0] == value[-1] and value[0] in "'\""
        return self.pseudonym(value[1:-1] if quoted else value)


def _is_shown(sentences: str, value: str) -> bool:
    """Whether a value may stand at the end of these: a number, or that of a field that is no person's."""
    words = sentences.rpartition("; ")[2].split(None, 1)
    first = words[0] if words else ""
    field = re.sub(r"\[[^\]]*\]", "", first).rpartition(".")[2].rstrip(":")  # events[3].user_id → user_id
    return bool(_PLAIN.fullmatch(value.strip()) or field in SHOWN_FIELDS or _NO_FIELD.fullmatch(first))
