"""Named sizes: how large a model, and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType

from services.training.adapt import AdaptConfig
from services.training.adapt_body import BodyConfig
from services.training.episodes import EpisodeShape
from services.training.loop import Rates
from services.training.metatrain import MetaConfig
from services.training.pretrain_batch import PretrainConfig
from services.training.private.config import PrivateConfig
from services.training.private.episodes import Contribution
from shared.errors import InvalidInput
from shared.modeling.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """A model's sizes and the settings of the stages; `body` takes the place of `adapt` where the
    adapter is of the whole body; `private` that of all of them where the training is private, None where it
    cannot be. sequence: in place of `pretrain` for the sequence model of people whom it
    knows, whose histories are long.

    A model reads no longer histories than its episodes have, but for the ratings in them: of people with 64
    events, one that was meta-trained on up to 20 shots made lists half as good from all of them as from their
    latest 20 (MovieLens-100K, NDCG@10 .07 against .13), and one meta-trained on up to 64 none that were
    better.
    """

    model: ModelConfig
    pretrain: PretrainConfig
    meta: MetaConfig
    adapt: AdaptConfig
    body: BodyConfig = field(default_factory=BodyConfig)
    sequence: PretrainConfig | None = None
    private: PrivateConfig | None = None

    def __post_init__(self) -> None:
        shots = self.meta.shape.max_shots
        if min(self.model.reach, self.model.max_length) > shots:
            rule = f"must be at most the shots of the longest episode, {shots}"
            raise InvalidInput.of("reach", rule, self.model.reach)

    def sequence_model(self) -> tuple[ModelConfig, PretrainConfig]:
        """The same for people whom the model knows, as sequence models are compared: pre-training alone, on
        the very next event, from histories as long as its windows."""
        pretrain = replace(
            self.sequence or self.pretrain,
            horizon=1,
            action_share=0.0,
            first_share=0.0,
            last_share=0.5,
            past_known=True,
            like_weight=0.0,
            rating_weight=0.0,
        )
        lengths = (*pretrain.lengths, pretrain.window)
        return replace(self.model, buckets=lengths, reach=pretrain.window), pretrain


PRESETS = MappingProxyType(
    {
        # Seconds; for tests.
        "tiny": Preset(
            ModelConfig(
                dim=16,
                blocks=1,
                heads=2,
                feed_forward=32,
                adapt_dim=16,
                rating_dim=4,
                content_hidden=16,
                buckets=(8, 16),
                uncertainty_rank=4,
            ),
            PretrainConfig(steps=40, batch_windows=16, window=16),
            MetaConfig(steps=40, batch_episodes=16, validate_every=20),
            AdaptConfig(steps=20, batch_episodes=16, own_episodes=8, validate_every=10),
            BodyConfig(steps=8, batch_episodes=4, validate_every=4),
            private=PrivateConfig(
                dim=16,
                adapt_dim=32,
                feed_forward=16,
                steps=10,
                sampling=0.3,
                items=40,
                contribution=Contribution(episodes=2, together=8, shape=EpisodeShape(thin_share=0.0)),
            ),
        ),
        # Two minutes on two cores with MovieLens-100K; the default.
        "small": Preset(
            ModelConfig(), PretrainConfig(), MetaConfig(), AdaptConfig(), private=PrivateConfig()
        ),
        # Half an hour on two cores with MovieLens-1M.
        "base": Preset(
            ModelConfig(feed_forward=256, dropout=0.2),
            PretrainConfig(
                steps=2000,
                batch_windows=256,
                positions=(6400, 1600, 1600),
                first_share=0.5,
                past_known=False,
                average=0.98,
                rates=Rates(rate=2e-3, warmup=100),
            ),
            MetaConfig(
                steps=400,
                batch_episodes=128,
                body_rate=2e-4,
                shape=EpisodeShape(
                    none_share=0.35, unseen_events=15, query=10, thin_share=0.25, action_share=0.25
                ),
            ),
            AdaptConfig(steps=1800, validate_every=300),
            private=PrivateConfig(),
            # Half an hour on two cores with MovieLens-1M.
            sequence=PretrainConfig(
                steps=2200,
                window=200,
                lengths=(64, 128),
                positions=(12_800, 0, 0),
                average=0.98,
                rates=Rates(rate=2e-3, warmup=200),
            ),
        ),
        # Large catalogues on a cluster.
        "large": Preset(
            ModelConfig(
                dim=128,
                blocks=3,
                heads=4,
                feed_forward=512,
                content_hidden=512,
                dropout=0.2,
                buckets=(16, 64),
                reach=64,
            ),
            PretrainConfig(
                steps=10_000,
                batch_windows=256,
                window=96,
                positions=(12_800, 3_200, 3_200),
                first_share=0.5,
                past_known=False,
                average=0.98,
                rates=Rates(warmup=500),
            ),
            MetaConfig(steps=5000, batch_episodes=128, shape=EpisodeShape(max_shots=64)),
            AdaptConfig(steps=1000, shape=EpisodeShape(max_shots=64)),
            sequence=PretrainConfig(
                steps=10_000,
                batch_windows=256,
                window=200,
                lengths=(64, 128),
                positions=(25_600, 0, 0),
                average=0.98,
                rates=Rates(warmup=500),
            ),
        ),
    }
)
DEFAULT_PRESET = "small"


def preset(name: str) -> Preset:
    """By name. Raises InvalidInput naming the known ones."""
    if name not in PRESETS:
        raise InvalidInput.of("preset", f"must be one of {', '.join(PRESETS)}", name)
    return PRESETS[name]
