"""Only versions that a trusted key signed are opened, whatever else somebody can write into a registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from shared.artifacts import Registry, Signer, TrustedKeys
from shared.artifacts.artifact import sha256_of
from shared.domain import ModelRef
from shared.errors import ArtifactError, SettingsError
from tests.artifacts import publish_plain


def write_keys(directory: Path, name: str) -> tuple[Path, Path]:
    """The files of a new private key and its public key, as `openssl genpkey` and `pkey` write them."""
    key = Ed25519PrivateKey.generate()
    private, public = directory / f"{name}-key.pem", directory / f"{name}.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def publisher(tmp_path: Path) -> Registry:
    private, _ = write_keys(tmp_path, "ours")
    return Registry(tmp_path / "registry", signer=Signer.of_file("KEY", str(private)))


@pytest.fixture
def server(tmp_path: Path, publisher: Registry) -> Registry:
    """The same registry, as a model server opens it."""
    return Registry(publisher.root, trusted=TrustedKeys.of_file("KEYS", str(tmp_path / "ours.pem")))


def tamper(registry: Registry, ref: ModelRef) -> Path:
    """Changes the program and makes the manifest anew, as whoever can write the registry could."""
    directory = registry.root / ref.domain / ref.version
    program = directory / "saved_model" / "saved_model.pb"
    program.write_bytes(b"another graph")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["saved_model/saved_model.pb"] = sha256_of(program)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def test_a_signed_version_opens_for_who_trusts_the_key_and_for_who_asks_for_none(
    publisher: Registry, server: Registry
) -> None:
    ref = publish_plain(publisher)
    assert server.open(ref).ref == ref
    assert Registry(publisher.root).open(ref).ref == ref


def test_a_changed_version_whose_manifest_was_made_anew_is_refused(
    publisher: Registry, server: Registry
) -> None:
    ref = publish_plain(publisher)
    tamper(publisher, ref)
    assert Registry(publisher.root).open(ref).ref == ref  # its checksums are right
    with pytest.raises(
        ArtifactError, match=r"manifest\.sig: must be a trusted key's signature of the manifest"
    ):
        server.open(ref)
    with pytest.raises(ArtifactError, match=r"manifest\.sig: must be a trusted key's"):
        server.promote(ref.domain, ref.version)


def test_a_version_without_a_signature_or_with_a_strangers_or_anothers_is_refused(
    publisher: Registry, server: Registry, tmp_path: Path
) -> None:
    unsigned = publish_plain(Registry(publisher.root))
    with pytest.raises(
        ArtifactError, match=r"manifest\.sig: must be there, as only signed versions are taken"
    ):
        server.open(unsigned)
    private, _ = write_keys(tmp_path, "strangers")
    strangers = publish_plain(Registry(publisher.root, signer=Signer.of_file("KEY", str(private))))
    with pytest.raises(ArtifactError, match="must be a trusted key's signature"):
        server.open(strangers)
    # A good version under another name: the manifest says whose it is.
    good = publish_plain(publisher)
    moved = ModelRef(good.domain, "20990101T000000.000Z")
    (publisher.root / good.domain / good.version).rename(publisher.root / moved.domain / moved.version)
    with pytest.raises(ArtifactError, match=r"version must be '20990101T000000\.000Z'"):
        server.open(moved)
    (publisher.root / moved.domain / moved.version / "manifest.sig").write_text("no hex")
    with pytest.raises(ArtifactError, match=r"manifest\.sig: must be a signature in hex"):
        server.open(moved)


def test_what_is_there_already_can_be_signed_and_signed_anew_by_another_key(
    publisher: Registry, server: Registry, tmp_path: Path
) -> None:
    ref = publish_plain(Registry(publisher.root))
    strangers, ours = write_keys(tmp_path, "strangers")[0], tmp_path / "ours-key.pem"
    for key, good in ((strangers, False), (ours, True)):
        signer = Signer.read("KEY", str(key))
        publisher.sign(ref, signer)
        if good:
            assert server.open(ref).ref == ref
        else:
            with pytest.raises(ArtifactError, match="must be a trusted key's signature"):
                server.open(ref)
    (publisher.root / ref.domain / ref.version / "items.parquet").write_bytes(b"other items")
    with pytest.raises(ArtifactError, match=r"items\.parquet: sha256 must be"):
        publisher.sign(ref, signer)
    assert [path.name for path in (publisher.root / ref.domain).iterdir()] == [ref.version], "nothing is left"


def test_what_is_run_is_what_was_verified_even_if_it_changes_in_between(
    publisher: Registry, server: Registry
) -> None:
    artifact = server.open(publish_plain(publisher))
    with artifact.own_saved_model() as own:
        tamper(publisher, artifact.ref)
        assert (own / "saved_model.pb").read_bytes() == b"graph"
        assert (own / "variables" / "variables.index").read_bytes() == b"index"
    assert not own.exists()
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: sha256 must be"):
        with artifact.own_saved_model():
            pass


def test_two_keys_are_trusted_while_one_takes_over_from_the_other(
    publisher: Registry, tmp_path: Path
) -> None:
    private, public = write_keys(tmp_path, "next")
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "ours.pem").read_bytes() + public.read_bytes())
    server = Registry(publisher.root, trusted=TrustedKeys.of_file("KEYS", str(both)))
    server.open(publish_plain(publisher))
    server.open(publish_plain(Registry(publisher.root, signer=Signer.of_file("KEY", str(private)))))


def test_who_trusts_a_key_publishes_nothing_that_it_did_not_sign(
    publisher: Registry, server: Registry
) -> None:
    with pytest.raises(ArtifactError, match="only signed versions are taken"):
        publish_plain(server)
    assert server.versions("default") == []


def test_files_that_hold_no_such_key_are_refused_with_setting_rule_and_file(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    curve = tmp_path / "curve.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    curve.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    for file in (public, curve, tmp_path / "ours.txt"):
        (tmp_path / "ours.txt").write_text("rubbish")
        with pytest.raises(SettingsError, match=f"KEY must hold an Ed25519 private key .*, got '{file}'"):
            Signer.of_file("KEY", str(file))
    for file in (private, curve, tmp_path / "ours.txt"):
        with pytest.raises(SettingsError, match=f"KEYS must hold Ed25519 public keys in PEM, got '{file}'"):
            TrustedKeys.of_file("KEYS", str(file))
    with pytest.raises(SettingsError, match="KEY must be a file that can be read"):
        Signer.of_file("KEY", str(tmp_path / "none"))
    assert Signer.of_file("KEY", "") is None
    assert TrustedKeys.of_file("KEYS", "") is None
