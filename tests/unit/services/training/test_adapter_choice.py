"""What is said of adapters without TensorFlow is what they say themselves."""

from __future__ import annotations

import pytest

from services.training import adapter_choice
from services.training.adapter_choice import SETTINGS, check_adapter
from shared.errors import InvalidInput

adapters = pytest.importorskip("shared.adapters")
EVERY = [(scope, name) for scope, known in SETTINGS.items() for name in known]


def test_their_names_are_those_that_exist() -> None:
    assert set(SETTINGS[adapter_choice.HEAD]) == set(adapters.ADAPTERS)
    assert set(SETTINGS[adapter_choice.BODY]) == set(adapters.BODY_ADAPTERS)


@pytest.mark.parametrize(("scope", "name"), EVERY)
def test_their_settings_are_those_that_they_list_and_are_refused_in_the_same_words(
    scope: str, name: str
) -> None:
    settings = {"scope": scope, "stepz": 3} if name == "gradient" else {"stepz": 3}
    with pytest.raises(InvalidInput) as early:
        check_adapter(name, settings, served=False)
    with pytest.raises(InvalidInput) as late:
        if scope == adapter_choice.HEAD:
            adapters.make_adapter(name, adapt_dim=1, rank=1, **settings)
        else:
            adapters.make_body_adapter(name, **settings)
    said = str(early.value).removeprefix("--adapter-settings ").partition(", got")[0]
    assert said == str(late.value).removeprefix("adapter_settings ").partition(", got")[0]
