"""What a published version says of itself: `manifest.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.artifacts.privacy import PrivacyInfo, privacy_rules
from shared.artifacts.reading import read_small
from shared.calibration import broken_rule
from shared.domain import TaskInfo
from shared.errors import ArtifactError, violation
from shared.trends import HALF_LIFE_S

# Raised where older servers could not serve what is written now; OLDEST_SCHEMA_VERSION by a release later, so
# that servers always read what the release before theirs published. Fields that older servers may pass over
# raise neither.
SCHEMA_VERSION = 1
OLDEST_SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
_MAX_BYTES = 4 << 20  # those of ours take some kB
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Dims:
    """Widths of the item rows.

    An output row is [v_i (adapt_offset wide) ; φ_i (adapt wide) ; what ratings are adapted by (rating wide) ;
    0, the place of transitions, where there are successors ; 0, the place of trends, where there are any ;
    one bias a task].

    trail: of how many events, the latest, `encode_adapt` says what they count to go out from; successors: how
    many the table of transitions keeps of an item; trends: 1 where scores count what is chosen now.
    """

    id: int
    content: int
    input: int
    support: int
    output: int
    adapt: int
    adapt_offset: int
    rating: int = 0
    trail: int = 0
    successors: int = 0
    trends: int = 0

    @property
    def taste(self) -> int:
        """Width of [v_i ; φ_i], the part of an output row that says what is alike."""
        return self.adapt_offset + self.adapt

    @property
    def transition(self) -> int:
        """The dimension of transitions in an output row and in a query, where there are any."""
        return self.taste + self.rating

    @property
    def trend(self) -> int:
        """The dimension of trends, where there are any."""
        return self.transition + int(self.successors > 0)


@dataclass(frozen=True, slots=True)
class TrendInfo:
    """How recent events count, see `shared.trends`: after half_life_s seconds half; the long run as much as
    `prior` of them, 0 where they do not count."""

    prior: float = 0.0
    half_life_s: float = HALF_LIFE_S


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """Which adapter the artifact carries, and its settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What the version was trained on; times in milliseconds since the Unix epoch."""

    events: int = 0
    users: int = 0
    items: int = 0
    from_ms: int = 0
    until_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestDraft:
    """What the publisher states; the registry adds name, time and checksums.

    buckets: ascending history lengths that `encode_adapt` was exported for; privacy: where it was trained
    with differential privacy.
    """

    dims: Dims
    buckets: tuple[int, ...]
    tasks: tuple[TaskInfo, ...]
    adapter: AdapterInfo
    uncertainty_rank: int = 0
    trends: TrendInfo = TrendInfo()
    model: Mapping[str, Any] = field(default_factory=dict)
    data: DataInfo = DataInfo()
    metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    privacy: PrivacyInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(ManifestDraft):
    """`manifest.json` whole. files: path inside the version → sha256, the manifest itself left out."""

    schema_version: int
    domain: str
    version: str
    created_ms: int
    files: Mapping[str, str]

    @classmethod
    def of(cls, draft: ManifestDraft, **more: Any) -> Manifest:
        """The draft with the registry's fields. Raises ArtifactError where a value breaks its rule."""
        stated = {f.name: getattr(draft, f.name) for f in fields(ManifestDraft)}
        manifest = cls(schema_version=SCHEMA_VERSION, **stated, **more)
        _refuse(MANIFEST_FILE, _broken_rules(manifest))
        return manifest

    def to_json(self) -> bytes:
        return _ADAPTER.dump_json(self, indent=2) + b"\n"

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Parses and checks a manifest. Raises ArtifactError naming the file, the rule and the value."""
        return cls.parse(path, cls.stated(path))

    @staticmethod
    def stated(path: Path) -> bytes:
        """What the file says, not checked yet. Raises ArtifactError where that cannot be read."""
        try:
            return read_small(path, _MAX_BYTES)
        except OSError as error:
            raise ArtifactError(f"{path}: must be readable: {error.strerror}") from error

    @classmethod
    def parse(cls, path: Path, raw: bytes) -> Manifest:
        """The same of what was read of the file already."""
        try:
            _refuse_newer(path, raw)
            manifest = _ADAPTER.validate_json(raw)
        except ValidationError as error:
            broken = [f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()]
            raise ArtifactError(f"{path}: {'; '.join(broken)}") from error
        _refuse(path, _broken_rules(manifest))
        return manifest


# Stray fields are left alone: a later schema may add some that older servers need not know.
_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def version_rule(version: str) -> str:
    """A version becomes a path, so it is plain. Words of the broken rule, or ""."""
    return (
        "" if _VERSION.fullmatch(version) else "must be 1..128 of 0-9 A-Z a-z . _ -, not starting with . _ -"
    )


def _refuse_newer(path: Path, raw: bytes) -> None:
    """Before anything else of it is judged, by rules that it was not written by."""
    try:
        stated = json.loads(raw)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # said by the rules for what is no manifest
    if isinstance(stated, int) and stated > SCHEMA_VERSION:
        broken = violation("schema_version", f"must be at most {SCHEMA_VERSION}", stated).description
        raise ArtifactError(f"{path}: {broken}: a newer version of this server reads it")


def _refuse(where: str | Path, broken: Iterator[str]) -> None:
    sentences = list(broken)
    if sentences:
        raise ArtifactError(f"{where}: {'; '.join(sentences)}")


def _broken_rules(m: Manifest) -> Iterator[str]:
    for name, rule, value, holds in _rules(m):
        if not holds:
            yield violation(name, rule, value).description


def _rules(m: Manifest) -> Iterator[tuple[str, str, object, bool]]:
    """(field, rule, value, whether it holds)."""
    d = m.dims
    yield (
        "schema_version",
        f"must be {OLDEST_SCHEMA_VERSION}..{SCHEMA_VERSION}",
        m.schema_version,
        OLDEST_SCHEMA_VERSION <= m.schema_version <= SCHEMA_VERSION,
    )
    yield "version", version_rule(m.version), m.version, not version_rule(m.version)
    for name in ("id", "content", "input", "support", "output", "adapt_offset"):
        yield f"dims.{name}", "must be at least 1", getattr(d, name), getattr(d, name) >= 1
    for name in ("adapt", "rating", "trail", "successors"):
        yield f"dims.{name}", "must be at least 0", getattr(d, name), getattr(d, name) >= 0
    yield (
        "dims.trail",
        "must be above 0 with successors, else 0",
        d.trail,
        (d.trail > 0) == (d.successors > 0),
    )
    yield "dims.trends", "must be 0 or 1", d.trends, d.trends in (0, 1)
    place = int(d.successors > 0)
    parts = d.trend + d.trends + len(m.tasks)
    yield (
        "dims.output",
        f"must be adapt_offset + adapt + rating + {place} for transitions + {d.trends} for trends + tasks = "
        f"{parts}",
        d.output,
        d.output == parts,
    )
    ascending = m.buckets == tuple(sorted(set(m.buckets))) and min(m.buckets, default=0) > 0
    yield "buckets", "must be positive and ascending", m.buckets, ascending
    names = [t.name for t in m.tasks]
    yield "tasks", "must have at least one", names, bool(names)
    yield "tasks", "must have distinct, non-empty names", names, len(set(names)) == len(names) and all(names)
    for task in m.tasks:
        rule = broken_rule(task.calibration)
        yield f"tasks[{task.name}].calibration", rule, task.calibration, not rule
        low, high = task.bounds
        yield f"tasks[{task.name}].bounds", "must be a low and a higher number", task.bounds, low < high
    prior, half_life_s = m.trends.prior, m.trends.half_life_s
    at_least_0 = prior >= 0 and isfinite(prior)
    yield "trends.prior", "must be a number of at least 0", prior, at_least_0
    yield "trends.prior", "must be 0 without the place of trends", prior, bool(d.trends) or not prior
    yield "trends.half_life_s", "must be above 0", half_life_s, half_life_s > 0 and isfinite(half_life_s)
    if m.privacy is not None:
        yield from privacy_rules(m.privacy)
    yield "uncertainty_rank", "must be at least 0", m.uncertainty_rank, m.uncertainty_rank >= 0
    for path, digest in m.files.items():
        yield "files", "must have paths inside the version", path, _inside(path)
        yield f"files[{path}]", "must be a sha256", digest, bool(_SHA256.fullmatch(digest))


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\\" not in path
