"""The sizes of a model, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.domain import PROBABILITY, Calibration, Link, TaskInfo
from shared.errors import InvalidInput

NEXT_TASK = "next"  # what the person consumes next
LIKE_TASK = "like"  # what the person will like
RATING_TASK = "rating"  # how many stars the person will give
CHOICES = (NEXT_TASK, LIKE_TASK)  # what the person will do: probabilities
TASKS = (*CHOICES, RATING_TASK)
# The scale of ratings, whatever a data set's own.
STARS = (1.0, 5.0)

_SIZES = (
    "dim",
    "blocks",
    "heads",
    "feed_forward",
    "adapt_dim",
    "content_dim",
    "content_rank",
    "content_hidden",
    "reach",
)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and settings of a model; goes into the manifest as it is.

    dim: width of the encoder, of input rows e and of v, the sequence part of output rows.
    adapt_dim: width of ψ and φ, the parts of support and output rows that choices are adapted by.
    rating_dim: width of u, the part of both rows that ratings are adapted by; 0 = no task `rating`.
    content_rank: principal components of the content embeddings that the item tower reads.
    content_hidden: width of the item tower's hidden layer over them.
    buckets: ascending history lengths that the artifact is exported for; of longer histories the latest
    events of the last one are read.
    reach: how many of these, the latest, the encoder and the fast weights of choices read; the ratings among
    the others count, too.
    successors: items that the artifact keeps of those that follow an item, see `shared.transitions`; 0 = no
    such table. trends: whether scores may count what is chosen now, see `shared.trends`.
    uncertainty_rank: rows of the posterior factor that `encode_adapt` returns.
    dropout: inside the encoder; row_dropout: on input rows; adapt_dropout: on ψ and φ;
    feature_dropout: share of people whose profile or request vectors are hidden in training.
    adapter, adapter_settings: see `shared.adapters`.
    """

    dim: int = 64
    blocks: int = 2
    heads: int = 2
    feed_forward: int = 128
    adapt_dim: int = 128
    rating_dim: int = 24
    content_dim: int = 512
    content_rank: int = 128
    content_hidden: int = 128
    buckets: tuple[int, ...] = (8, 20, 64)
    reach: int = 20
    successors: int = 200
    trends: bool = True
    uncertainty_rank: int = 16
    dropout: float = 0.3
    row_dropout: float = 0.2
    adapt_dropout: float = 0.4
    feature_dropout: float = 0.5
    adapter: str = "ridge"
    adapter_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise InvalidInput.of(name, "must be at least 1", getattr(self, name))
        for name in ("dropout", "row_dropout", "adapt_dropout", "feature_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InvalidInput.of(name, "must be in [0, 1)", getattr(self, name))
        for name in ("rating_dim", "successors"):
            if getattr(self, name) < 0:
                raise InvalidInput.of(name, "must be at least 0", getattr(self, name))
        if self.dim % self.heads:
            raise InvalidInput.of("heads", f"must divide dim {self.dim}", self.heads)
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            raise InvalidInput.of("buckets", "must be ascending lengths of at least 1", self.buckets)
        if not 1 <= self.uncertainty_rank <= self.adapt_dim:
            raise InvalidInput.of("uncertainty_rank", f"must be 1..{self.adapt_dim}", self.uncertainty_rank)

    @property
    def tasks(self) -> tuple[str, ...]:
        return TASKS if self.rating_dim else CHOICES

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def rating_width(self) -> int:
        """[u ; 1]: what an output row holds for ratings beside their bias."""
        return self.rating_dim + 1 if self.rating_dim else 0

    @property
    def support_dim(self) -> int:
        """[ψ ; u ; 1 ; bias of ratings]."""
        return self.adapt_dim + (self.rating_width + 1 if self.rating_dim else 0)

    @property
    def adapt_offset(self) -> int:
        """First dimension of φ in an output row, and of the fast weights in a query."""
        return self.dim

    @property
    def taste_dim(self) -> int:
        """[v ; φ]: the part of an output row that says what is alike."""
        return self.dim + self.adapt_dim

    @property
    def transition_offset(self) -> int:
        """The dimension of an output row that says, once a person is known, how much the item follows what
        they have done; and of a query how much that counts."""
        return self.taste_dim + self.rating_width

    @property
    def transition_width(self) -> int:
        return int(self.successors > 0)

    @property
    def trend_offset(self) -> int:
        """The dimension of an output row that says how much more than in the long run the item is chosen now;
        and of a query how much that counts."""
        return self.transition_offset + self.transition_width

    @property
    def trend_width(self) -> int:
        return int(self.trends)

    @property
    def trail(self) -> int:
        """Events, the latest, that transitions go out from."""
        return min(self.reach, self.max_length) if self.successors else 0

    @property
    def output_dim(self) -> int:
        """[v ; φ ; u ; 1 ; 0, the place of transitions ; 0, the place of trends ; one bias a task]."""
        return self.trend_offset + self.trend_width + len(self.tasks)

    @property
    def row_dims(self) -> dict[str, int]:
        """What an item's rows are made of, each part once, by size: e, ψ, v, φ, b (the biases of choices) and
        r = [u ; bias of ratings]."""
        parts = {
            "e": self.dim,
            "psi": self.adapt_dim,
            "v": self.dim,
            "phi": self.adapt_dim,
            "b": len(CHOICES),
        }
        return {**parts, "r": self.rating_dim + 1} if self.rating_dim else parts

    @property
    def id_dim(self) -> int:
        """An id embedding holds the item's own share of each part."""
        return sum(self.row_dims.values())

    @property
    def buckets_within_reach(self) -> tuple[int, ...]:
        """Lengths of what the encoder reads."""
        return (*(length for length in self.buckets if length < self.reach), min(self.reach, self.max_length))

    @property
    def max_length(self) -> int:
        return self.buckets[-1]

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "adapter_settings": dict(self.adapter_settings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `as_dict`, also after a trip through JSON."""
        return cls(**{**values, "buckets": tuple(values["buckets"])})


def task_infos(
    calibrations: Mapping[str, tuple[Calibration, ...]], offsets: Mapping[str, float]
) -> tuple[TaskInfo, ...]:
    """The tasks for the manifest, those that `offsets` names.

    calibrations: by task, see `services.training.calibrate`. The values of choices are probabilities that the
    person does it among their next few events; those of `rating` are stars, and rank nothing unless asked to.
    """
    return tuple(
        TaskInfo(
            name,
            offset=offsets[name],
            link=Link.IDENTITY if name == RATING_TASK else Link.SIGMOID,
            default_weight=0.0 if name == RATING_TASK else 0.5,
            calibration=calibrations.get(name, ()),
            bounds=STARS if name == RATING_TASK else PROBABILITY,
        )
        for name in TASKS
        if name in offsets
    )
