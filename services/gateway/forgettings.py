"""When people were forgotten, on a clock of forgettings: what was begun before that is not kept of them.

People are known here by a hash under a key of this process, so that remembering whom to forget keeps nobody.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import blake2b

_HASH_BYTES = 16


class Forgettings:
    """The latest `people` of them. `moment` counts them."""

    def __init__(self, people: int) -> None:
        self._people = people
        self._at: OrderedDict[bytes, int] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self.moment = 0

    def person(self, domain: str, user_id: str) -> bytes:
        """What stands for a person in this process's memory."""
        return blake2b(f"{domain}\0{user_id}".encode(), digest_size=_HASH_BYTES, key=self._key).digest()

    def note(self, domain: str, user_id: str) -> None:
        self.moment += 1
        person = self.person(domain, user_id)
        self._at[person] = self.moment
        self._at.move_to_end(person)
        if len(self._at) > self._people:
            self._at.popitem(last=False)

    def since(self, moment: int, domain: str, user_id: str) -> bool:
        """Whether the person was forgotten after a moment."""
        return self._at.get(self.person(domain, user_id), 0) > moment
