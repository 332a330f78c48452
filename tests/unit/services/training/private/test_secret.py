"""The secret: nobody can foretell its numbers, and who holds it draws the same ones again."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from services.training.private.secret import SECRET_BYTES, Secret, SecretLost, draw_secret, read_secret

SECRET = Secret(b"k" * SECRET_BYTES)


def test_the_same_purpose_and_step_give_the_same_numbers_and_others_give_others() -> None:
    once = SECRET.normal("noise", 3, 1000)
    np.testing.assert_array_equal(once, SECRET.normal("noise", 3, 1000))
    others = (
        SECRET.normal("noise", 4, 1000),
        SECRET.normal("who", 3, 1000),
        Secret(b"l" * SECRET_BYTES).normal("noise", 3, 1000),
    )
    assert all(abs(np.corrcoef(once, other)[0, 1]) < 0.15 for other in others)


def test_numbers_are_of_a_standard_normal_distribution() -> None:
    drawn = SECRET.normal("noise", 0, 200_000)
    assert abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(1.0, abs=0.01)
    assert np.mean(np.abs(drawn) < 1.959964) == pytest.approx(0.95, abs=0.003)
    assert np.isfinite(drawn).all()


def test_a_secret_is_drawn_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "job" / "secret"
    draw_secret(path)
    first = path.read_bytes()
    draw_secret(path)
    assert path.read_bytes() == first
    assert len(first) == SECRET_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["secret"]
    draw_secret(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() != first


def test_a_lost_secret_is_told_and_none_is_ever_printed(tmp_path: Path) -> None:
    with pytest.raises(SecretLost, match="secret must hold the 32 bytes that the run's noise was made from"):
        read_secret(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(SecretLost, match="got 5: begin a new run"):
        read_secret(tmp_path / "secret")
    assert "kkkk" not in repr(SECRET)
    assert SECRET.fingerprint != Secret(b"l" * SECRET_BYTES).fingerprint
