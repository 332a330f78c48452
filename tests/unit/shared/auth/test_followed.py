"""A file is taken up again when it changes, whatever way that is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.auth.followed import FollowedFile


def number(content: bytes) -> int:
    return int(content)


def followed(path: Path) -> FollowedFile[int]:
    return FollowedFile(path, number, "numbers")


def replace(path: Path, content: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(content)
    draft.replace(path)


async def test_a_file_that_is_renamed_over_it_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text("1")
    file = followed(path)
    assert not await file.look()
    replace(path, "2")
    assert await file.look()
    assert (file.value, file.problem) == (2, "")
    assert not await file.look()


async def test_what_is_written_in_place_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text("1")
    file = followed(path)
    path.write_text("22")
    assert await file.look()
    assert file.value == 22


async def test_a_link_that_is_swapped_as_kubernetes_does_is_taken_up(tmp_path: Path) -> None:
    """keys.json → ..data/keys.json, and ..data → a directory of the version; only ..data is swapped."""
    for version, content in (("v1", "1"), ("v2", "2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "n").write_text(content)
    (tmp_path / "..data").symlink_to("v1")
    path = tmp_path / "n"
    path.symlink_to("..data/n")
    file = followed(path)
    (tmp_path / "..next").symlink_to("v2")
    (tmp_path / "..next").replace(tmp_path / "..data")
    assert await file.look()
    assert file.value == 2


async def test_a_broken_file_leaves_the_value_before_it_until_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text("1")
    file = followed(path)
    replace(path, "half of")
    assert not await file.look()
    assert file.value == 1
    assert "invalid literal" in file.problem
    replace(path, "3")
    assert await file.look()
    assert (file.value, file.problem) == (3, "")


async def test_a_missing_file_leaves_the_value_before_it_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text("1")
    file = followed(path)
    path.unlink()
    assert not await file.look()
    assert (file.value, file.problem) == (1, "No such file or directory")
    path.write_text("1")
    assert await file.look()
    assert (file.value, file.problem) == (1, "")


async def test_a_file_that_is_far_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.auth.followed.MAX_BYTES", 3)
    path = tmp_path / "n"
    path.write_text("1")
    file = followed(path)
    path.write_text("1000")
    assert not await file.look()
    assert file.problem == "must be at most 3 bytes"


def test_a_file_that_is_not_there_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        followed(tmp_path / "n")
