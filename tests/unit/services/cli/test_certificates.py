"""`warmstart certificates`, and which certificates commands show."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest
from cryptography import x509

from services.cli import tls
from services.cli.app import main
from services.cli.certificates import CALLERS, OPERATOR, files_of, write_certificates
from services.cli.cluster.ports import Ports
from services.cli.cluster.state import write_state
from services.cli.failures import CommandError
from services.cli.training.arguments import erasures_arguments
from shared.tls import read_tls


def names(path: Path) -> list[str]:
    cert = x509.load_pem_x509_certificate(path.read_bytes())
    found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_each_service_gets_a_pair_for_its_name_and_this_machine(tmp_path: Path) -> None:
    made = write_certificates(tmp_path, days=30, hosts=("shop.internal", "10.0.0.7"))
    assert made == ["gateway", "features", "adaptation", "scoring", "training", "operator"]
    for name in made:
        assert read_tls(files_of(tmp_path, name)).expires is not None
        assert stat.S_IMODE((tmp_path / f"{name}-key.pem").stat().st_mode) == 0o600
    local = ["localhost", "127.0.0.1", "::1"]
    assert names(tmp_path / "features.pem") == ["features", *local, "shop.internal", "10.0.0.7"]
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{n}{e}.pem" for n in ("ca", *made) for e in ("", "-key")
    }  # nothing else, no drafts


def test_the_directory_that_it_makes_is_passed_over_by_git(tmp_path: Path) -> None:
    write_certificates(tmp_path / "tls", days=30)
    assert (tmp_path / "tls/.gitignore").read_text().splitlines()[-1] == "*"


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk: here no file may grow beyond 150 bytes, and a key has more."""
    (tmp_path / "there").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        codes = [main(["certificates", str(tmp_path / name)]) for name in ("made", "there")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert codes == [1, 1]
    said = capsys.readouterr().err
    for name in ("made", "there"):
        assert f"error: {tmp_path / name / 'ca-key.pem'}: File too large\n" in said
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]


def test_once_more_renews_by_the_same_authority(tmp_path: Path) -> None:
    write_certificates(tmp_path, days=30)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    write_certificates(tmp_path, days=30)
    same = {p.name for p in tmp_path.iterdir() if p.read_bytes() == before[p.name]}
    assert same == {"ca.pem", "ca-key.pem"}
    authority = x509.load_pem_x509_certificate(before["ca.pem"])
    x509.load_pem_x509_certificate((tmp_path / "gateway.pem").read_bytes()).verify_directly_issued_by(
        authority
    )


def test_names_that_servers_are_called_by_outlive_a_renewal(tmp_path: Path) -> None:
    write_certificates(tmp_path, days=30, hosts=["shop.internal", "10.0.0.7"])
    write_certificates(tmp_path, days=30, hosts=["shop.internal", "other.internal"])
    local = ["localhost", "127.0.0.1", "::1"]
    wanted = ["gateway", *local, "shop.internal", "10.0.0.7", "other.internal"]
    assert names(tmp_path / "gateway.pem") == wanted
    (tmp_path / "gateway.pem").write_text("cut short")
    with pytest.raises(
        CommandError, match=r"gateway\.pem must be a certificate .*: remove it to make it anew"
    ):
        write_certificates(tmp_path, days=30)


def test_half_an_authority_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    write_certificates(tmp_path, days=30)
    key = (tmp_path / "ca-key.pem").read_bytes()
    (tmp_path / "ca-key.pem").unlink()
    with pytest.raises(CommandError, match=r"ca\.pem is there without ca-key\.pem: put it back"):
        write_certificates(tmp_path, days=30)
    (tmp_path / "ca-key.pem").write_bytes(key[:40])
    with pytest.raises(CommandError, match=r"ca\.pem and ca-key\.pem must be an authority's"):
        write_certificates(tmp_path, days=30)


def test_a_file_in_the_directorys_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("notes")
    with pytest.raises(CommandError, match="must be a directory, got the file"):
        write_certificates(tmp_path / "tls", days=1)
    assert (tmp_path / "tls").read_text() == "notes"


def test_whose_calls_a_service_takes_is_who_calls_it() -> None:
    """The table of docs/architecture.md."""
    assert CALLERS["adaptation"] == CALLERS["scoring"] == ("gateway",)
    assert set(CALLERS["features"]) == {"gateway", "adaptation", "scoring", "training", OPERATOR}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key go together, got 'a.pem' alone"),
        (
            ["--tls-cert", "a.pem", "--tls-key", "b.pem"],
            "--tls-ca must be given where --tls-cert is, got 'a.pem'",
        ),
        (
            ["--tls-ca", "none.pem"],
            "--tls-ca must be a file that can be read (No such file or directory), got",
        ),
    ],
)
def test_files_that_do_not_go_together_are_refused(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "items", "list", "--gateway", "127.0.0.1:1"]) == 1
    assert message in capsys.readouterr().err


def test_a_training_is_told_the_files_by_its_own_variables(tmp_path: Path) -> None:
    write_certificates(tmp_path, days=30)
    tls.options()
    assert tls.environment() == {}
    assert tls.source() is None
    tls.use_certificates(tmp_path)
    assert tls.environment() == {
        "WARMSTART_TRAINING_TLS_CERT": str(tmp_path / "operator.pem"),
        "WARMSTART_TRAINING_TLS_KEY": str(tmp_path / "operator-key.pem"),
        "WARMSTART_TRAINING_TLS_CA": str(tmp_path / "ca.pem"),
    }
    tls.options(ca=str(tmp_path / "ca.pem"))  # what is given stands, without what the cluster's has
    tls.use_certificates(tmp_path)
    assert tls.environment()["WARMSTART_TRAINING_TLS_CERT"] == ""
    tls.options()


@pytest.mark.parametrize("host", ["a b", "", "http://shop.internal", "-shop", "shop..internal", "shöp", "*"])
def test_a_host_that_nobody_can_call_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(CommandError, match="--host must be a host name or an IP address, got"):
        write_certificates(tmp_path, days=30, hosts=("shop.internal", host))
    assert not list(tmp_path.iterdir())


def test_names_with_wildcards_and_addresses_are_taken(tmp_path: Path) -> None:
    assert write_certificates(tmp_path, days=30, hosts=("*.shop.internal", "features_1", "fe80::1"))


def test_a_cluster_that_is_asked_who_was_erased_is_called_with_its_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a training that goes on, or that uses the data of an earlier run."""
    for name in ("CERT", "KEY", "CA"):
        monkeypatch.delenv(f"WARMSTART_TRAINING_TLS_{name}", raising=False)
    tls.options()
    write_certificates(tmp_path, days=30)
    write_state(tmp_path, Ports.from_base(6000), tmp_path)
    assert erasures_arguments(tmp_path, "", "") == ["--features-target=127.0.0.1:6001"]
    assert tls.environment()["WARMSTART_TRAINING_TLS_CERT"] == str(tmp_path / "operator.pem")
    tls.options()
