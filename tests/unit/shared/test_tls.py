"""Certificate files are checked before anybody is served with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from shared.errors import SettingsError
from shared.settings import ServerSettings, TlsFiles, load, settings_config
from shared.tls import TlsSource, read_tls, warn_of_risks
from tests.certificates import Pki


class ShopSettings(ServerSettings):
    model_config = settings_config("SHOP")


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki(tmp_path)
    pki.issue("shop")
    return pki


def files(pki: Pki) -> TlsFiles:
    serving = load(ShopSettings, **pki.server("shop")).serving_tls
    assert serving is not None
    return serving


def lock(pki: Pki) -> None:
    key = load_pem_private_key(pki.key("shop").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    pki.key("shop").write_bytes(locked)


def another_key(pki: Pki) -> None:
    kept = pki.cert("shop").read_bytes()
    pki.issue("shop")
    pki.cert("shop").write_bytes(kept)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: p.cert("shop").unlink(),
            "TLS_CERT must be a file that can be read (No such file or directory), got '{0}/shop.pem'",
        ),
        (lambda p: p.key("shop").unlink(), "TLS_KEY must be a file that can be read (No such file"),
        (
            lambda p: p.cert("shop").write_text("x"),
            "TLS_CERT must hold certificates in PEM, got '{0}/shop.pem'",
        ),
        (lambda p: p.key("shop").write_text("x"), "TLS_KEY must hold a private key in PEM, without password"),
        (lock, "TLS_KEY must hold a private key in PEM, without password, got '{0}/shop-key.pem'"),
        (another_key, "TLS_KEY must hold the key of the certificate in {0}/shop.pem, got '{0}/shop-key.pem'"),
        (
            lambda p: p.issue("shop", days=-1),
            "TLS_CERT must hold a certificate that is valid now, this one is from ",
        ),
        (
            lambda p: p.issue("shop", days=90),  # it begins in 30 days
            "TLS_CERT must hold a certificate that is valid now, this one is from ",
        ),
        (
            lambda p: p.ca_file.write_text("x"),
            "TLS_CLIENT_CA must hold certificates in PEM, got '{0}/ca.pem'",
        ),
    ],
)
def test_files_that_cannot_serve_are_refused_with_setting_rule_and_file(
    pki: Pki, spoil: Callable[[Pki], None], message: str
) -> None:
    assert read_tls(files(pki)).expires is not None
    spoil(pki)
    with pytest.raises(SettingsError) as caught:
        TlsSource(files(pki))
    assert str(caught.value).startswith(f"WARMSTART_SHOP_{message.format(pki.directory)}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert": "a.pem"}, "TLS_KEY: must be set where tls_cert is, got ''"),
        ({"tls_key": "a.pem"}, "TLS_KEY: must be empty where tls_cert is, got 'a.pem'"),
        (
            {"tls_client_ca": "a.pem"},
            "TLS_CLIENT_CA: must be empty where tls_cert is, got 'a.pem'",
        ),
        (
            {"tls_cert": "a.pem", "tls_key": "b.pem", "tls_client_names": "gateway"},
            "TLS_CLIENT_NAMES: must be empty where tls_client_ca is, got ",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ShopSettings, **given)
    assert f"WARMSTART_SHOP_{message}" in str(caught.value)


def test_without_files_there_is_no_tls_and_a_ca_alone_calls_with_it(pki: Pki) -> None:
    assert (load(ShopSettings).serving_tls, load(ShopSettings).calling_tls) == (None, None)
    calling = load(ShopSettings, tls_ca=str(pki.ca_file)).calling_tls
    assert calling is not None
    assert read_tls(calling).ca == pki.ca_file.read_bytes()


def test_names_of_callers_are_split_at_commas(monkeypatch: pytest.MonkeyPatch, pki: Pki) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_TLS_CLIENT_NAMES", "gateway, scoring,")
    assert load(ShopSettings, **pki.server("shop")).tls_client_names == ("gateway", "scoring")


def test_a_key_that_everybody_can_read_and_a_certificate_that_ends_soon_are_told(
    pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_risks(files(pki), read_tls(files(pki)))
    assert capsys.readouterr().out == ""
    pki.issue("shop", days=2)
    pki.key("shop").chmod(0o644)
    warn_of_risks(files(pki), read_tls(files(pki)))
    said = capsys.readouterr().out
    assert "private key is readable by everybody" in said
    assert f"chmod 600 {pki.key('shop')}" in said
    assert "certificate expires soon" in said
