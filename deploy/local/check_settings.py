"""`python -m deploy.local.check_settings`: are the settings of all services in this environment good?

Also the files of keys that they name.

Run by `warmstart up` before it starts anything: a service with bad settings would only die, again and again.
"""

from __future__ import annotations

import sys

from services.adaptation.settings import AdaptationSettings
from services.features.settings import FeatureSettings
from services.gateway.settings import GatewaySettings
from services.scoring.settings import ScoringSettings
from services.training.service.settings import TrainingServiceSettings
from shared.auth.credentials import Credentials
from shared.auth.settings import DoorSettings
from shared.errors import SettingsError
from shared.settings import BAD_SETTINGS, ServerSettings, load, unread
from shared.tls import source_of

_SETTINGS: tuple[type[ServerSettings], ...] = (
    FeatureSettings,
    AdaptationSettings,
    ScoringSettings,
    GatewaySettings,
    TrainingServiceSettings,
)


def main() -> int:
    """0, or 1 with every bad variable, its rule and its value on stderr. Tells what is no setting, too."""
    strangers = [_told(*pair) for cls in _SETTINGS for pair in unread(cls).items()]
    found = [line for cls in _SETTINGS for line in _problems(cls)]
    header = [BAD_SETTINGS] if found else []
    sys.stderr.writelines(f"{line}\n" for line in (*strangers, *header, *found))
    return 1 if found else 0


def _told(variable: str, nearest: str) -> str:
    return f"{variable} is no setting and changes nothing" + (f": is {nearest} meant?" if nearest else "")


def _problems(cls: type[ServerSettings]) -> list[str]:
    """A line each."""
    try:
        settings = load(cls)
        if isinstance(settings, DoorSettings):
            Credentials.of(settings)
        for files in (settings.serving_tls, settings.calling_tls):
            source_of(files)
    except SettingsError as error:
        return [f"  {line.strip()}" for line in str(error).splitlines() if line != BAD_SETTINGS]
    return []


if __name__ == "__main__":
    sys.exit(main())
