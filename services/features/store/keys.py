"""Key names and logical shards.

Every key begins with `{<domain>:<shard>}`. The braces are a hash tag: all keys of one tag live in
one cluster slot, so a script may touch them together. Tags of a domain:

    {d:sNNN}   people of logical shard NNN, their events and that shard's log
    {d:items}  the catalogue and its change stream
    {d:trend}  trending weights
    {d:meta}   schema version, epoch; erasures whose bytes the store's files may still hold; leases

Keys of `{d:sNNN}` (<u> = user id; records see `records.py`):

    p:<u>   hash    person: a attributes (JSON), n events, q arrivals, r relation changes, t when attributes
                    or relations of theirs last arrived (ms, the store's clock),
                    l0/l1 first and last log entry, i0/i1 the same of the impressions,
                    b:o the version of relations of theirs: when the first was written (us), how many since
    h:<u>   zset    history: arrival + record by event time
    s:<u>   zset    seen item ids by time
    d:<u>   zset    digests of the latest event ids by arrival
    f:<u>   hash    relations of <u>: kind + other → weight, time (weight 0 = removed)
    b:<u>   hash    relations to <u>: kind + owner → token of the writing (version 1: nothing)
    mf:<u>  set     who was merged into <u>, directly or by others: shard + keyed hash
    xh:<u> xf:<u> xb:<u> xm:<u>  history, relations and who was merged, detached while <u> is being erased
    log     stream  events of the shard in order of arrival, all but impressions
    imp     stream  impressions, apart: there are far more of them, and they must not push events out
    users   set     people with attributes or relations
    gone    hash    keyed hash of an erased person → time of erasure
    m:<h>   string  when the person of that keyed hash was merged into another; goes after an hour
    md:<h>  zset    digests of the latest event ids of the person of that keyed hash who was merged into
                    another: what comes again is known; goes with whom they were merged into
    merges  hash    keyed hash of a merged person → time of the latest merge; goes likewise
    c:<h>   string  while relations of and to the person of that keyed hash wait, as they are being merged or
                    somebody whom they are related to is being erased; goes after seconds
    k:<h>   string  token of the merge that has to do with the person of that keyed hash; goes after seconds
    o:<t>   string  relations to people of the shard that were noted under that token are finished by another
                    server; goes after an hour
    jobs    hash    work that spans shards and is not finished
    state   hash    id of the last exported log entry; how often entries were cut out of a log, and at which
                    of these times it was last packed anew
    log:<t> imp:<t> stream  a log while it is packed anew, under a random token
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b


@dataclass(frozen=True)
class ShardKeys:
    """Keys of one logical shard."""

    tag: str

    @cached_property
    def log(self) -> str:
        return f"{self.tag}:log"

    @cached_property
    def impressions(self) -> str:
        return f"{self.tag}:imp"

    @cached_property
    def users(self) -> str:
        return f"{self.tag}:users"

    @cached_property
    def gone(self) -> str:
        return f"{self.tag}:gone"

    @cached_property
    def merges(self) -> str:
        return f"{self.tag}:merges"

    @cached_property
    def jobs(self) -> str:
        return f"{self.tag}:jobs"

    @cached_property
    def state(self) -> str:
        return f"{self.tag}:state"

    def person(self, user_id: str) -> str:
        return f"{self.tag}:p:{user_id}"

    def history(self, user_id: str) -> str:
        return f"{self.tag}:h:{user_id}"

    def seen(self, user_id: str) -> str:
        return f"{self.tag}:s:{user_id}"

    def dedupe(self, user_id: str) -> str:
        return f"{self.tag}:d:{user_id}"

    def forward(self, user_id: str) -> str:
        return f"{self.tag}:f:{user_id}"

    def back(self, user_id: str) -> str:
        return f"{self.tag}:b:{user_id}"

    def merged_from(self, user_id: str) -> str:
        return f"{self.tag}:mf:{user_id}"

    def merged(self, keyed_hash: bytes) -> str:
        return f"{self.tag}:m:{keyed_hash.hex()}"

    def known_of_merged(self, keyed_hash: bytes) -> str:
        return f"{self.tag}:md:{keyed_hash.hex()}"

    def closed(self, keyed_hash: bytes) -> str:
        return f"{self.tag}:c:{keyed_hash.hex()}"

    def merging(self, keyed_hash: bytes) -> str:
        return f"{self.tag}:k:{keyed_hash.hex()}"

    def taken_over(self, token: bytes) -> str:
        return f"{self.tag}:o:{token.hex()}"

    def detached_history(self, user_id: str) -> str:
        return f"{self.tag}:xh:{user_id}"

    def detached_forward(self, user_id: str) -> str:
        return f"{self.tag}:xf:{user_id}"

    def detached_back(self, user_id: str) -> str:
        return f"{self.tag}:xb:{user_id}"

    def detached_merged_from(self, user_id: str) -> str:
        return f"{self.tag}:xm:{user_id}"


class DomainKeys:
    """Keys of one domain with a fixed number of logical shards."""

    def __init__(self, domain: str, num_shards: int) -> None:
        self.domain = domain
        self.shards = tuple(ShardKeys(f"{{{domain}:s{n:03d}}}") for n in range(num_shards))
        items = f"{{{domain}:items}}"
        self.item_docs = f"{items}:docs"
        self.item_vectors = f"{items}:vectors"
        self.item_ids = f"{items}:ids"
        self.item_changes = f"{items}:changes"
        self.item_state = f"{items}:state"
        self.schema = schema_key(domain)
        self.erasures = f"{{{domain}:meta}}:erasures"

    def lease(self, work: str) -> str:
        """Who holds it does work that one server at a time should do."""
        return f"{{{self.domain}:meta}}:lease:{work}"

    def shard_number(self, user_id: str) -> int:
        """Which shard a person lives in: the same on every server, for ever."""
        return int.from_bytes(blake2b(user_id.encode(), digest_size=4).digest(), "big") % len(self.shards)

    def shard(self, user_id: str) -> ShardKeys:
        return self.shards[self.shard_number(user_id)]

    def places_by_shard(self, user_ids: Iterable[str]) -> dict[int, list[int]]:
        """Shard number → places of its people in `user_ids`, in order."""
        places: dict[int, list[int]] = {}
        known: dict[str, int] = {}
        for place, user_id in enumerate(user_ids):
            shard = known.get(user_id)
            if shard is None:
                shard = known[user_id] = self.shard_number(user_id)
            places.setdefault(shard, []).append(place)
        return places

    @property
    def people_pattern(self) -> str:
        """Glob of the keys of everybody's `person`."""
        return f"{{{self.domain}:s[0-9][0-9][0-9]}}:p:*"

    def person_of(self, person_key: bytes) -> str:
        """Whose `person` a key is."""
        return person_key.decode()[len(self.shards[0].person("")) :]

    def trending(self, half_life_s: int) -> str:
        """Weights of different half-lives cannot be mixed, so each has its key."""
        return f"{{{self.domain}:trend}}:{half_life_s}"


def schema_key(domain: str) -> str:
    return f"{{{domain}:meta}}:schema"
