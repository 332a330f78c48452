"""The environment of every server: a line a variable."""

from __future__ import annotations

import os

from services.adaptation.settings import AdaptationSettings
from services.features.settings import FeatureSettings
from services.gateway.settings import GatewaySettings
from services.scoring.settings import ScoringSettings
from services.training.service.settings import TrainingServiceSettings
from shared.settings import load
from tests.fuzz.targets.base import Target, Wrong, chosen

_CLASSES = (GatewaySettings, FeatureSettings, AdaptationSettings, ScoringSettings, TrainingServiceSettings)
_SECRETS = ("TOKEN_SECRET", "DELETION_SECRET")


def _read(case: bytes) -> object:
    number, data = chosen(case, len(_CLASSES))
    kind = _CLASSES[number]
    prefix = str(kind.model_config["env_prefix"])
    told = {}
    for line in data.decode("utf-8", "replace").replace("\0", "").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.isidentifier() and name.isascii():
            told[prefix + name.upper()] = value
    os.environ.update(told)
    try:
        settings = load(kind)
    except Exception as error:
        for secret in _SECRETS:
            value = told.get(prefix + secret, "")
            if len(value) > 8 and value in str(error):
                raise Wrong(f"{secret} is shown") from error
        raise
    finally:
        for name in told:
            del os.environ[name]
    shown = repr(settings)
    if any(len(told.get(prefix + s, "")) > 8 and told[prefix + s] in shown for s in _SECRETS):
        raise Wrong("a secret is shown")
    return settings


def _seeds() -> list[bytes]:
    found = []
    for number, kind in enumerate(_CLASSES):
        lines = [f"{name}={_default(field.default)}" for name, field in kind.model_fields.items()]
        found += [
            bytes((number,)) + "\n".join(lines).encode(),
            bytes((number,)) + "\n".join(lines[:4]).encode(),
        ]
    return [*found, b"\0SOURCE_QUOTAS=fresh=0.1,friends=0.2\nTOKEN_SECRET=0123456789abcdef"]


def _default(value: object) -> object:
    return (
        ",".join(value) if isinstance(value, tuple) else value if isinstance(value, (int, float, str)) else ""
    )


TARGETS = (Target("settings", _read, _seeds),)
