"""Addresses of the store."""

from __future__ import annotations

import pytest

from services.features.store.address import safe_url, url_of_node


@pytest.mark.parametrize(
    ("url", "host", "wanted"),
    [
        ("valkey://10.0.0.1:6379/0", "10.0.0.2", "valkey://10.0.0.2:7000/0"),
        ("valkeys://me:pass@store:6379?x=1", "fd00::1", "valkeys://me:pass@[fd00::1]:7000?x=1"),
    ],
)
def test_a_clusters_node_is_called_with_the_same_credentials(url: str, host: str, wanted: str) -> None:
    assert url_of_node(url, host, 7000) == wanted


def test_addresses_are_shown_without_user_and_password() -> None:
    assert safe_url("valkey://me:pass@store:6379/0") == "valkey://store:6379/0"
    assert safe_url("unix:///run/valkey.sock?db=0") == "unix:///run/valkey.sock?db=0"
