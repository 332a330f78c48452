"""Published models for these tests."""

from __future__ import annotations

import pytest

from tests.model_servers import Models


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))
