"""Logs, packed anew: what was cut out of a stream stays in its blocks until a whole block is empty.

XDEL marks an entry of a block (some hundred entries) as deleted and leaves its bytes, in memory and in every
file that the store writes from then on. So a log out of which something was cut is copied, and the copy put
in its place; appends go on meanwhile.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from services.features.store.connection import Command, Store
from services.features.store.keys import DomainKeys
from services.features.store.scripts import script

# Fields of the shard's state that count the times entries were cut out of a log.
CUT_LOG, CUT_IMPRESSIONS = "cut:log", "cut:imp"
_ENTRIES_A_COPY = 500
# A copy that nobody finishes goes after this.
_ABANDONED_S = 600


@dataclass(frozen=True, slots=True)
class _Log:
    key: str
    state: str
    cut_field: str

    @property
    def packed_field(self) -> str:
        return self.cut_field.replace("cut", "packed")


class Packer:
    """Packs the logs of one domain."""

    def __init__(self, store: Store, keys: DomainKeys) -> None:
        self._store = store
        self._logs = [
            _Log(key, shard.state, cut_field)
            for shard in keys.shards
            for key, cut_field in ((shard.log, CUT_LOG), (shard.impressions, CUT_IMPRESSIONS))
        ]

    async def pack(self) -> bool:
        """Packs every log that something was cut out of since it was packed last. False where something was
        cut out of one meanwhile: then it is not done."""
        fields = [("HMGET", log.state, log.cut_field, log.packed_field) for log in self._logs]
        done = True
        for log, (cut, packed) in zip(self._logs, await self._store.run(fields), strict=True):
            if cut is not None and cut != packed:
                done &= await self._pack(log, cut)
        return done

    async def _pack(self, log: _Log, cut: bytes) -> bool:
        copy = f"{log.key}:{secrets.token_hex(8)}"  # of this attempt alone
        first = "-"
        while True:
            args: Command = [first, _ENTRIES_A_COPY, _ABANDONED_S]
            last = await self._store.script(script("pack_copy"), [log.key, copy], args)
            if not last:
                break
            first = f"({last.decode()}"
        args = [log.cut_field, cut, log.packed_field]
        return bool(await self._store.script(script("pack_swap"), [log.key, copy, log.state], args))
