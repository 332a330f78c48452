"""The README's settings tables, from the settings classes. `make docs` writes them."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services.adaptation.settings import AdaptationSettings
from services.features.settings import FeatureSettings
from services.gateway.settings import GatewaySettings
from services.scoring.settings import ScoringSettings
from services.training.service.settings import TrainingServiceSettings
from shared.auth.settings import DoorSettings
from shared.inference.settings import ModelServerSettings
from shared.settings import ServerSettings

README = Path(__file__).parents[2] / "README.md"
_START = "<!-- settings: written by `make docs`, checked by the tests -->\n"
_END = "<!-- /settings -->"
_SERVERS = (GatewaySettings, FeatureSettings, AdaptationSettings, ScoringSettings, TrainingServiceSettings)


def tables() -> str:
    """Markdown: a table of what all servers share, of model servers' own, of doors', and of each server's."""
    parts = [
        "**Every server** (`<SERVICE>` is GATEWAY, FEATURES, ADAPTATION, SCORING or TRAINING)\n",
        _header(),
    ]
    parts += _rows(ServerSettings, "WARMSTART_<SERVICE>_", leave_out={"port"})
    parts += ["\n**Adaptation and scoring** (`<SERVICE>` is ADAPTATION or SCORING)\n", _header()]
    parts += _rows(ModelServerSettings, "WARMSTART_<SERVICE>_", leave_out=set(ServerSettings.model_fields))
    parts += ["\n**Gateway and training** (`<SERVICE>` is GATEWAY or TRAINING)\n", _header()]
    parts += _rows(DoorSettings, "WARMSTART_<SERVICE>_", leave_out=set(ServerSettings.model_fields))
    for cls in _SERVERS:
        prefix = str(cls.model_config["env_prefix"])
        parts += [f"\n**{prefix.split('_')[1].capitalize()}**\n", _header()]
        parts += _rows(cls, prefix, leave_out=_inherited(cls))
    return "\n".join(parts) + "\n"


def _inherited(cls: type[ServerSettings]) -> set[str]:
    base = cls.__mro__[1]
    assert issubclass(base, ServerSettings)
    return {
        name
        for name, field in base.model_fields.items()
        if cls.model_fields[name].default == field.default and name != "port"
    }


def _header() -> str:
    return "| variable | default | meaning |\n|---|---|---|"


def _rows(cls: type[ServerSettings], prefix: str, leave_out: set[str]) -> list[str]:
    return [
        f"| `{prefix}{name.upper()}` | {_shown(field)} | {field.description} |"
        for name, field in cls.model_fields.items()
        if name not in leave_out
    ]


def _shown(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return ""  # depends on where it runs; the description says it
    default = field.default
    if isinstance(default, SecretStr) or default in ("", None, ()):
        return ""
    if isinstance(default, tuple):
        return f"`{','.join(map(str, default))}`"
    if isinstance(default, dict):
        return f"`{','.join(f'{k}={v}' for k, v in default.items())}`"
    return f"`{default}`"


def section(text: str) -> str:
    """What stands between the markers."""
    return text.split(_START)[1].split(_END)[0]


def main() -> None:
    text = README.read_text()
    README.write_text(text.replace(_START + section(text) + _END, f"{_START}\n{tables()}\n{_END}"))


if __name__ == "__main__":
    main()
