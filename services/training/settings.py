"""What one `train` or `evaluate` is told; plain values, noted in the run's `run.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from services.training.adapter_choice import ADAPTER_NAMES, BODY, scope_of
from services.training.cluster import RESTARTS
from services.training.roles import RoleSettings
from services.training.runs import OPTIONS_FILE
from shared.datasets.reading import FileOptions
from shared.domain import DEFAULT_DOMAIN
from shared.errors import InvalidInput, Violation, violation
from shared.holdout import HELD_OUT_SHARE, VALIDATION_SHARE
from shared.limits import domain_rule
from shared.modeling.config import TASKS

PROMOTE = ("auto", "never", "always")
# Settings that may be 0.
_COUNTS = (
    "pretrain_steps",
    "meta_steps",
    "cpus",
    "seed",
    "new_items",
    "query_last",
    "restarts",
    "side_by_side",
)
# Some gigabytes at the most, with hundreds of events each.
PEOPLE_IN_MEMORY = 200_000
# Names of `presets.PRESETS`, which cannot be asked without TensorFlow; a test compares them.
PRESET_NAMES = ("tiny", "small", "base", "large")
# Those with a private training, likewise.
PRIVATE_PRESETS = ("tiny", "small", "base")
# Of whose adapters all numbers are few enough to be learnt under noise.
PRIVATE_ADAPTERS = ("ridge", "gradient", "none")
# Fit for a million people: it must be below one over how many there are.
PRIVATE_DELTA = 1e-6
# Less leaves nothing to learn from; with more, a person could multiply what is likely by e^20: no promise.
_EPSILONS = (0.01, 20.0)
PROTOCOLS = (
    "few-shot",
    "adaptation",
    "adapters",
    "new-items",
    "feedback",
    "leave-one-out",
    "rating",
    "private",
    "all",
)
PRIVATE = "private"
# Those that ask for the next liked items too.
_LIKED = ("few-shot", "all")
# What a protocol would pass over, and why.
_NO_USE = {
    "leave-one-out": (
        (
            "adapter",
            "adapter_settings",
            "meta_steps",
            "held_out_users",
            "held_out_share",
            "validation_share",
            "task",
        ),
        "which asks a pre-trained model of everybody",
    ),
    "adapters": (("adapter", "adapter_settings", "task"), "which compares all that can be served"),
    "rating": (("task",), "which asks for stars"),
    PRIVATE: (("task",), "which ranks by the task that is asked for"),
    "new-items": (("seeds",), "which trains one model"),
    "feedback": (("seeds",), "which trains one model"),
}
# Those that hold items out.
_WITH_NEW_ITEMS = ("new-items", "all")
# How files are read, beside the columns.
_READING = ("action", "time_unit", "rating_scale", "separator")
# Measured by default: what the gateway ranks by, each task's query by its default weight.
MIX = "mix"


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Where the data come from: the feature service, a known data set, or files. Exactly one."""

    features_target: str = ""
    dataset: str = ""
    dataset_path: str = ""
    events: str = ""
    items: str = ""
    users: str = ""
    relations: str = ""
    columns: tuple[str, ...] = ()
    action: str = ""
    time_unit: str = ""
    rating_scale: str = ""
    separator: str = ""

    def violations(self) -> list[Violation]:
        given = [n for n in ("features_target", "dataset", "events") if getattr(self, n)]
        found = []
        if len(given) != 1:
            found.append(
                violation("source", "must be one of --features-target, --dataset, --events", given or "none")
            )
        found += [
            violation(f"--{name}", "must come with --events", getattr(self, name))
            for name in ("items", "users", "relations")
            if getattr(self, name) and not self.events
        ]
        if self.dataset_path and not self.dataset:
            found.append(violation("--path", "must come with --dataset", self.dataset_path))
        return found + self._reading_violations()

    def reading(self) -> FileOptions:
        """How the files' cells are read. Raises InvalidInput."""
        return FileOptions.parse(
            action=self.action,
            time_unit=self.time_unit,
            rating_scale=self.rating_scale,
            separator=self.separator,
        )

    def _reading_violations(self) -> list[Violation]:
        given = {"--map": self.columns} | {_flag(name): getattr(self, name) for name in _READING}
        found = [
            violation(option, "must come with --events: it says how that file is read", value)
            for option, value in given.items()
            if value and not self.events
        ]
        try:
            self.reading()
        except InvalidInput as error:
            found += error.violations
        return found


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that a training depends on.

    workers: data-parallel workers; cpus: cores of this machine to use (0 = all); address: of a Ray
    cluster, "" = a local one; restarts: see `cluster.ClusterSettings`; people_in_memory: of more people,
    pre-training reads all from disk and what follows reads so many; private_epsilon, private_delta: what the
    version promises people who are trained on, None = nothing; side_by_side: trainings of an evaluation
    at a time (0 = one a core of this machine, on a cluster one); blind: whether an evaluation also trains
    models that are blind to labels; data_dir: as the command line was given it, for reports alone. Steps of
    0 keep the preset's.
    """

    source: SourceSettings
    domain: str = DEFAULT_DOMAIN
    registry: str = "var/registry"
    run_dir: str = ""
    preset: str = "small"
    adapter: str = "ridge"
    adapter_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    pretrain_steps: int = 0
    meta_steps: int = 0
    workers: int = 1
    cpus: int = 0
    address: str = ""
    restarts: int = RESTARTS
    people_in_memory: int = PEOPLE_IN_MEMORY
    side_by_side: int = 0
    held_out_share: float = HELD_OUT_SHARE
    validation_share: float = VALIDATION_SHARE
    held_out_users: str = ""
    private_epsilon: float | None = None
    private_delta: float = PRIVATE_DELTA
    task: str = MIX
    promote: str = "auto"
    protocol: str = "few-shot"
    query_last: int = 0
    seeds: int = 3
    new_items: int = 100
    blind: bool = False
    data_run: str = ""
    data_dir: str = ""

    def __post_init__(self) -> None:
        found = [] if self.data_run else self.source.violations()
        rule = domain_rule(self.domain)
        if rule:
            found.append(violation("--domain", rule, self.domain))
        for name in _COUNTS:
            if getattr(self, name) < 0:
                found.append(violation(_flag(name), "must be at least 0", getattr(self, name)))
        for name in ("workers", "seeds", "people_in_memory"):
            if getattr(self, name) < 1:
                found.append(violation(_flag(name), "must be at least 1", getattr(self, name)))
        for name in ("held_out_share", "validation_share"):
            if not 0.0 < getattr(self, name) < 1.0:
                found.append(violation(_flag(name), "must be between 0 and 1", getattr(self, name)))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                found.append(
                    violation(_flag(name), f"must be one of {', '.join(known)}", getattr(self, name))
                )
        if not isinstance(self.adapter_settings, Mapping):
            found.append(violation("--adapter-settings", "must be a JSON object", self.adapter_settings))
        elif self.adapts_body and self.protocol != "few-shot":
            rule = (
                f"must be few-shot with adapter {self.adapter}: it adapts whole bodies, which are not served"
            )
            found.append(violation("--protocol", rule, self.protocol))
        if self.query_last and self.protocol not in _LIKED:
            rule = f"must come with --protocol {' or '.join(_LIKED)}: others have queries of their own"
            found.append(violation("--query-last", rule, self.query_last))
        passed_over, why = _NO_USE.get(self.protocol, ((), ""))
        defaults = {field.name: field.default for field in fields(self)} | {"adapter_settings": {}}
        found += [
            violation(
                _flag(name), f"must not come with --protocol {self.protocol}, {why}", getattr(self, name)
            )
            for name in passed_over
            if getattr(self, name) not in (defaults[name], {"seeds": 1}.get(name))
        ]
        if self.new_items != defaults["new_items"] and self.protocol not in _WITH_NEW_ITEMS:
            rule = f"must come with --protocol {' or '.join(_WITH_NEW_ITEMS)}: others hold no items out"
            found.append(violation("--new-items", rule, self.new_items))
        if self.blind and (self.protocol not in _LIKED or self.query_last or self.adapts_body):
            rule = (
                f"must come with --protocol {' or '.join(_LIKED)}, without --query-last and with an adapter "
                "that is served: others ask for no liked items"
            )
            found.append(violation("--blind", rule, self.blind))
        if self.data_run and not _is_run(Path(self.data_run)):
            rule = f"must be a run's directory (with {OPTIONS_FILE})"
            found.append(violation("--data-run", rule, self.data_run))
        found += self._private_violations()
        if self.held_out_users:
            try:
                self.held_out_ids()
            except (OSError, ValueError) as error:
                rule = f"must be a file of ids, one a line or a JSON object's names ({error})"
                found.append(violation("--held-out-users", rule, self.held_out_users))
        if found:
            raise InvalidInput(found)

    def _private_violations(self) -> list[Violation]:
        """What cannot be, or what it cannot be together with."""
        epsilon, delta = self.private_epsilon, self.private_delta
        found = []
        least, most = _EPSILONS
        if epsilon is not None and not least <= epsilon <= most:
            found.append(violation("--private-epsilon", f"must be {least:g}..{most:g}", epsilon))
        if not 0.0 < delta < 1.0:
            found.append(violation("--private-delta", "must be above 0 and below 1", delta))
        private = self.protocol == PRIVATE
        if epsilon is None and not private:
            if delta != PRIVATE_DELTA:
                rule = f"must come with --private-epsilon or --protocol {PRIVATE}"
                found.append(violation("--private-delta", rule, delta))
            return found
        asked = f"--protocol {PRIVATE}" if private else "--private-epsilon"
        for name, known in (("preset", PRIVATE_PRESETS), ("adapter", PRIVATE_ADAPTERS)):
            value = getattr(self, name)
            if value not in known and value in _CHOICES[name]:
                found.append(violation(_flag(name), f"must be one of {', '.join(known)} with {asked}", value))
        if self.meta_steps and not private:
            rule = f"must be 0 with {asked}: a private training has one stage, of --pretrain-steps"
            found.append(violation("--meta-steps", rule, self.meta_steps))
        if self.source.events and not self.source.items:
            rule = f"must come with --events and {asked}: items that events alone name tell of people"
            found.append(violation("--items", rule, self.source.items))
        return found

    @property
    def adapts_body(self) -> bool:
        """Whether the adapter gives each person a body of their own, which no artifact can hold."""
        return scope_of(self.adapter, self.adapter_settings) == BODY

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    def roles(self) -> RoleSettings:
        """With the list of held-out people where one is given."""
        ids = self.held_out_ids() if self.held_out_users else None
        return RoleSettings(self.held_out_share, self.validation_share, ids)

    def held_out_ids(self) -> frozenset[str]:
        """Those of the file `held_out_users`. Raises OSError or ValueError where it has none."""
        ids = _ids(Path(self.held_out_users).read_text(encoding="utf-8"))
        if not ids:
            raise ValueError("it is empty")
        return ids


_CHOICES = {
    "preset": PRESET_NAMES,
    "adapter": ADAPTER_NAMES,
    "promote": PROMOTE,
    "protocol": PROTOCOLS,
    "task": (*TASKS, MIX),
}


def _ids(text: str) -> frozenset[str]:
    """One id a line; or the names of a JSON object, as in the files that MeLU publishes its division by."""
    if text.lstrip().startswith("{"):
        return frozenset(json.loads(text))
    return frozenset(line.strip() for line in text.splitlines() if line.strip())


def _is_run(directory: Path) -> bool:
    """False for what no directory can be called, too."""
    try:
        return (directory / OPTIONS_FILE).is_file()
    except OSError:
        return False


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
