"""The README's settings tables are the settings classes' own words."""

from __future__ import annotations

from tests.contract.settings_table import README, section, tables


def test_the_settings_tables_are_up_to_date() -> None:
    """`make docs` writes them."""
    assert section(README.read_text()).strip() == tables().strip()
