"""The registry: publication is atomic, opening verifies everything, aliases can be rolled back."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.artifacts import (
    CHALLENGER,
    CHAMPION,
    Dims,
    Mechanism,
    PrivacyInfo,
    Registry,
    TrendInfo,
    TrustedKeys,
)
from shared.artifacts.artifact import sha256_of
from shared.domain import Calibration, Link, ModelRef, TaskInfo
from shared.errors import ArtifactError, NotFound
from tests.artifacts import DIMS, DRAFT, item_ids, plain_build, publish_plain, rows_of


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def directory_of(registry: Registry, ref: ModelRef) -> Path:
    return registry.root / ref.domain / ref.version


def rewrite_manifest(registry: Registry, ref: ModelRef, change: Callable[[dict[str, Any]], None]) -> None:
    file = directory_of(registry, ref) / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def reseal(registry: Registry, ref: ModelRef, name: str) -> None:
    """Makes the manifest agree with a changed file, so that only the deeper check can object."""
    digest = sha256_of(directory_of(registry, ref) / name)
    rewrite_manifest(registry, ref, lambda m: m["files"].update({name: digest}))


def test_a_published_version_opens_as_it_was_built(registry: Registry) -> None:
    ids = item_ids(3)
    rows = rows_of(ids)
    knots = (Calibration(0, 0.5, -2.0), Calibration(5, 1.5, -4.0))
    like = TaskInfo("like", offset=-1.5, link=Link.SIGMOID, calibration=knots)
    draft = replace(DRAFT, tasks=(TaskInfo("next"), like))
    ref = registry.publish("shop", plain_build(ids, rows), draft)

    artifact = registry.open(ref)

    assert artifact.ref == ref
    assert artifact.item_ids == ("item-0000", "item-0001", "item-0002")
    assert artifact.vocabulary()[1].title == "Title of item-0001"
    assert artifact.vocabulary()[1].categories == ("drama", "war")
    np.testing.assert_array_equal(artifact.rows.output, rows["output"])
    np.testing.assert_array_equal(artifact.rows.content, rows["content"])
    assert artifact.manifest.tasks == draft.tasks
    assert artifact.manifest.dims == DIMS
    assert artifact.manifest.adapter == DRAFT.adapter
    assert artifact.manifest.data == DRAFT.data
    assert sorted(artifact.manifest.files) == [
        "items.parquet",
        "rows/content.npy",
        "rows/id.npy",
        "rows/input.npy",
        "rows/output.npy",
        "rows/support.npy",
        "saved_model/saved_model.pb",
        "saved_model/variables/variables.index",
    ]


def test_a_version_without_items_is_legal(registry: Registry) -> None:
    rows = {k: np.zeros((0, getattr(DIMS, k))) for k in ("id", "input", "support", "output", "content")}
    ref = registry.publish("shop", plain_build([], rows), DRAFT)
    assert registry.open(ref).item_ids == ()


def with_transitions(registry: Registry, **changed: Any) -> ModelRef:
    """Three items with two successors each; `changed` rows in place of good ones."""
    dims = replace(DIMS, trail=4, successors=2, output=DIMS.output + 1)
    rows = rows_of(item_ids(3), dims)
    rows["successors"] = np.array([[1, 2], [2, -1], [-1, -1]], np.int32)
    rows["follows"] = np.array([[0.5, 0.25], [1.0, 0.0], [0.0, 0.0]], np.float32)
    return registry.publish("default", plain_build(item_ids(3), rows | changed), replace(DRAFT, dims=dims))


def test_transitions_come_back_as_they_were(registry: Registry) -> None:
    found = registry.open(with_transitions(registry)).transitions
    np.testing.assert_array_equal(found.items, [[1, 2], [2, -1], [-1, -1]])
    np.testing.assert_array_equal(found.weights, [[0.5, 0.25], [1.0, 0.0], [0.0, 0.0]])


def test_a_version_without_transitions_has_an_empty_table(registry: Registry) -> None:
    assert registry.open(publish_plain(registry, items=5)).transitions.items.shape == (5, 0)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("successors", 3, r"successors.npy: values must be -1..2, got 3 in row 1, column 0"),
        ("successors", -2, r"successors.npy: values must be -1..2, got -2 in row 1, column 0"),
        ("follows", 1.5, r"follows.npy: values must be 0.0..1.0, got 1.5 in row 1, column 0"),
        ("follows", np.nan, r"follows.npy: values must be finite, got nan in row 1, column 0"),
    ],
)
def test_a_bad_table_of_transitions_is_refused(
    registry: Registry, kind: str, value: float, message: str
) -> None:
    bad = np.zeros((3, 2), np.float32 if kind == "follows" else np.int32)
    bad[1, 0] = value
    with pytest.raises(ArtifactError, match=message):
        registry.open(with_transitions(registry, **{kind: bad}))


def test_a_table_that_the_manifest_states_must_be_there(registry: Registry) -> None:
    ref = with_transitions(registry)
    (directory_of(registry, ref) / "rows/follows.npy").unlink()
    with pytest.raises(ArtifactError, match=r"rows/follows\.npy: must exist"):
        registry.open(ref)


def with_trends(registry: Registry, counts: list[float], **stated: Any) -> ModelRef:
    """Three items, and how often they were chosen."""
    dims = replace(DIMS, trends=1, output=DIMS.output + 1)
    rows = rows_of(item_ids(3), dims) | {"counts": np.array(counts, np.float32)[:, None]}
    draft = replace(DRAFT, dims=dims, trends=TrendInfo(**{"prior": 30.0, **stated}))
    return registry.publish("default", plain_build(item_ids(3), rows), draft)


def test_trends_come_back_as_they_were(registry: Registry) -> None:
    artifact = registry.open(with_trends(registry, [5.0, 0.0, 2.5], half_life_s=60.0))
    np.testing.assert_array_equal(artifact.trends.counts, [5.0, 0.0, 2.5])
    assert artifact.trends.prior == 30.0
    assert artifact.manifest.trends == TrendInfo(30.0, 60.0)
    assert artifact.manifest.dims.trend == DIMS.taste + DIMS.rating
    plain = registry.open(publish_plain(registry, items=5))
    assert plain.trends.counts.shape == (5,)
    assert plain.trends.prior == 0.0


@pytest.mark.parametrize(
    ("counts", "stated", "message"),
    [
        ([1.0, -2.0, 0.0], {}, r"counts.npy: values must be at least 0, got -2.0 in row 1"),
        ([1.0, np.nan, 0.0], {}, r"counts.npy: values must be finite, got nan in row 1"),
        ([1.0, 2.0, 0.0], {"prior": -1.0}, r"trends.prior must be a number of at least 0, got -1.0"),
        ([1.0, 2.0, 0.0], {"prior": np.inf}, r"trends.prior must be a number of at least 0, got inf"),
        ([1.0, 2.0, 0.0], {"half_life_s": 0.0}, r"trends.half_life_s must be above 0, got 0.0"),
    ],
)
def test_bad_trends_are_refused(
    registry: Registry, counts: list[float], stated: dict[str, float], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        registry.open(with_trends(registry, counts, **stated))


def test_a_prior_needs_the_place_of_trends(registry: Registry) -> None:
    with pytest.raises(ArtifactError, match=r"trends.prior must be 0 without the place of trends, got 30.0"):
        publish_plain(registry, trends=TrendInfo(30.0))
    with pytest.raises(ArtifactError, match=r"dims.trends must be 0 or 1, got 2"):
        publish_plain(registry, dims=replace(DIMS, trends=2, output=DIMS.output + 2))


def test_versions_sort_by_time_even_where_the_clock_goes_back(tmp_path: Path) -> None:
    times = iter([1_700_000_000_500] * 2 + [1_600_000_000_000] * 2)
    registry = Registry(tmp_path, clock_ms=lambda: next(times))
    first = publish_plain(registry)
    second = publish_plain(registry)
    assert first.version == "20231114T221320.500Z"
    assert second.version == "20231114T221320.501Z"
    assert registry.versions("default") == [first.version, second.version]


@pytest.mark.parametrize(
    "name",
    [
        "items.parquet",
        "rows/id.npy",
        "rows/input.npy",
        "rows/support.npy",
        "rows/output.npy",
        "rows/content.npy",
        "saved_model/saved_model.pb",
        "saved_model/variables/variables.index",
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_file_is_refused_by_its_name(registry: Registry, name: str, damage: str) -> None:
    ref = publish_plain(registry)
    file = directory_of(registry, ref) / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name}.*must"):
        registry.open(ref)


MECHANISM = {"name": "sums", "sensitivity": 1.0, "noise_multiplier": 2.0, "sampling": 1.0, "steps": 1}


def privacy(**changed: Any) -> dict[str, Any]:
    """As a manifest states it."""
    return {"epsilon": 4.0, "delta": 1e-6, "mechanisms": [MECHANISM], "accountant": "", **changed}


def test_a_version_says_what_it_promises_and_one_that_promises_nothing_says_so(registry: Registry) -> None:
    ref = publish_plain(registry)
    assert registry.open(ref).manifest.privacy is None
    rewrite_manifest(registry, ref, lambda m: m.update(privacy=privacy()))
    told = registry.open(ref).manifest.privacy
    assert told == PrivacyInfo(4.0, 1e-6, (Mechanism("sums", 1.0, 2.0),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: (m.clear(), m.update(schema_version=2, layout="of a later release")),
            "schema_version must be at most 1, got 2: a newer version of this server reads it",
        ),
        (lambda m: m.update(schema_version=0), r"schema_version must be 1\.\.1, got 0"),
        (lambda m: m.pop("tasks"), "tasks: Field required"),
        (lambda m: m.update(domain="news"), "domain must be 'default', got 'news'"),
        (lambda m: m.update(version="v2"), "version must be '.*', got 'v2'"),
        (lambda m: m.update(buckets=[16, 4]), r"buckets must be positive and ascending, got \(16, 4\)"),
        (lambda m: m.update(buckets=[]), "buckets must be positive and ascending"),
        (lambda m: m.update(tasks=[]), "tasks must have at least one"),
        (
            lambda m: m["tasks"][0].update(calibration=[{"shots": 0, "scale": 0.0}]),
            r"tasks\[next\].calibration must have finite scales above 0",
        ),
        (
            lambda m: m["tasks"][0].update(bounds=[5.0, 1.0]),
            r"tasks\[next\].bounds must be a low and a higher",
        ),
        (lambda m: m["dims"].update(rating=1), "dims.output must be adapt_offset .* = 18, got 17"),
        (lambda m: m["dims"].update(adapt=7), "dims.output must be adapt_offset .* = 18, got 17"),
        (lambda m: m["dims"].update(content=0), "dims.content must be at least 1, got 0"),
        (
            lambda m: m.update(privacy=privacy(epsilon=0.0)),
            "privacy.epsilon must be a number above 0, got 0.0",
        ),
        (
            lambda m: m.update(privacy=privacy(delta=1.0)),
            "privacy.delta must be above 0 and below 1, got 1.0",
        ),
        (lambda m: m.update(privacy=privacy(mechanisms=[])), "privacy.mechanisms must have at least one"),
        (
            lambda m: m.update(privacy=privacy(mechanisms=[{**MECHANISM, "noise_multiplier": 0.0}])),
            r"privacy.mechanisms\[sums\].noise_multiplier must be a number above 0, got 0.0",
        ),
        (
            lambda m: m.update(privacy=privacy(mechanisms=[{**MECHANISM, "sampling": 1.5}])),
            r"privacy.mechanisms\[sums\].sampling must be above 0 and at most 1, got 1.5",
        ),
        (lambda m: m["files"].pop("rows/id.npy"), "files must name 'rows/id.npy'"),
        (lambda m: m["files"].update({"../../x": "0" * 64}), "files must have paths inside the version"),
        (lambda m: m["files"].update({"/etc/passwd": "0" * 64}), "files must have paths inside the version"),
        (lambda m: m["files"].update({"items.parquet": "00"}), "must be a sha256, got '00'"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(
    registry: Registry, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    ref = publish_plain(registry)
    rewrite_manifest(registry, ref, change)
    with pytest.raises(ArtifactError, match=message):
        registry.open(ref)


# What the first release did not write yet.
_SINCE = {
    "dims": ("rating", "trail", "successors", "trends"),
    "": ("trends", "uncertainty_rank", "model", "data", "metrics", "libraries"),
}


def test_what_the_first_release_published_is_read_and_what_a_later_one_adds_is_passed_over(
    registry: Registry,
) -> None:
    ref = publish_plain(registry)

    def as_of_then(manifest: dict[str, Any]) -> None:
        for part, names in _SINCE.items():
            for name in names:
                (manifest[part] if part else manifest).pop(name)
        for task in manifest["tasks"]:
            task.pop("bounds")
        manifest["dims"]["of a later release"] = 7
        manifest["of a later release"] = {"any": "thing"}

    rewrite_manifest(registry, ref, as_of_then)
    assert registry.open(ref).item_ids == tuple(item_ids(5))


def test_a_manifest_that_is_no_json_is_refused(registry: Registry) -> None:
    ref = publish_plain(registry)
    (directory_of(registry, ref) / "manifest.json").write_bytes(b'{"schema_version": 1,')
    with pytest.raises(ArtifactError, match=r"manifest\.json: document: Invalid JSON"):
        registry.open(ref)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 17), np.float64), "dtype must be float32, got float64"),
        (np.ones((4, 17), np.float32), r"shape must be \(5, 17\), got \(4, 17\)"),
        (np.ones((5, 16), np.float32), r"shape must be \(5, 17\), got \(5, 16\)"),
        (np.full((5, 17), np.nan, np.float32), "values must be finite, got nan in row 0, column 0"),
        (
            np.where(np.arange(85).reshape(5, 17) == 60, np.inf, 0).astype(np.float32),
            ".* inf in row 3, column 9",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(registry: Registry, array: Any, message: str) -> None:
    ref = publish_plain(registry)
    np.save(directory_of(registry, ref) / "rows" / "output.npy", array)
    reseal(registry, ref, "rows/output.npy")
    with pytest.raises(ArtifactError, match=rf"rows/output\.npy: {message}"):
        registry.open(ref)


def test_pickled_rows_are_never_loaded(registry: Registry) -> None:
    ref = publish_plain(registry)
    np.save(directory_of(registry, ref) / "rows" / "id.npy", np.array([[object()]]), allow_pickle=True)
    reseal(registry, ref, "rows/id.npy")
    with pytest.raises(ArtifactError, match=r"rows/id\.npy: must be an array of numbers"):
        registry.open(ref)


def test_stray_files_and_links_are_refused(registry: Registry) -> None:
    ref = publish_plain(registry)
    stray = directory_of(registry, ref) / "saved_model" / "extra.so"
    stray.write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"extra\.so: must be named by the manifest"):
        registry.open(ref)
    stray.unlink()
    stray.symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match=r"extra\.so: must be a file or directory, got a symbolic link"):
        registry.open(ref)


@pytest.mark.parametrize(
    ("name", "most"), [("manifest.json", 4 << 20), ("manifest.sig", 1 << 10), ("champion.json", 64 << 10)]
)
def test_what_is_read_before_it_is_believed_is_a_small_regular_file(
    registry: Registry, name: str, most: int
) -> None:
    """A pipe would hold a server up for ever, a huge file fill its memory: here a gigabyte of holes."""
    ref = publish_plain(registry)
    registry.promote("default", ref.version)
    directory = registry.root / "default"
    file = directory / name if name == "champion.json" else directory / ref.version / name
    key = Ed25519PrivateKey.generate().public_key()
    server = Registry(registry.root, trusted=TrustedKeys([key]))

    def taken_up() -> None:
        found = server.champion("default")
        assert found is not None
        server.open(found)

    file.unlink(missing_ok=True)
    os.mkfifo(file)
    with pytest.raises(ArtifactError, match=rf"{re.escape(str(file))}: must be a regular file, got prw"):
        taken_up()
    file.unlink()
    with file.open("wb") as stream:
        stream.truncate(1 << 30)
    rule = rf"{re.escape(str(file))}: must be at most {most:,} bytes, got 1,073,741,824"
    with pytest.raises(ArtifactError, match=rule):
        taken_up()


def test_a_publication_that_would_be_refused_leaves_nothing(registry: Registry) -> None:
    ids = item_ids(2)
    rows = rows_of(ids)
    rows["support"][1, 2] = np.nan
    with pytest.raises(ArtifactError, match=r"rows/support\.npy: values must be finite"):
        registry.publish("default", plain_build(ids, rows), DRAFT)
    with pytest.raises(ArtifactError, match=r"dims\.adapt must be at least 0, got -1"):
        publish_plain(registry, dims=Dims(8, 512, 12, 6, 10, -1, 9))
    with pytest.raises(ArtifactError, match=r"item_id of row 1 must be unique, got 'twice'"):
        registry.publish("default", plain_build(["twice", "twice"], rows_of(item_ids(2))), DRAFT)
    assert registry.versions("default") == []
    assert [p.name for p in (registry.root / "default").iterdir()] == []


def test_a_failing_build_leaves_nothing(registry: Registry) -> None:
    def build(directory: Path) -> None:
        (directory / "half").write_bytes(b"x")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        registry.publish("default", build, DRAFT)
    assert list((registry.root / "default").iterdir()) == []


def test_half_written_versions_are_not_listed(registry: Registry) -> None:
    ref = publish_plain(registry)
    (registry.root / "default" / ".publishing-0123").mkdir()
    (registry.root / "default" / "20990101T000000.000Z").mkdir()  # no manifest yet
    (registry.root / "default" / "notes.txt").write_text("hello")
    assert registry.versions("default") == [ref.version]


def test_concurrent_publishers_get_versions_of_their_own(tmp_path: Path) -> None:
    registry = Registry(tmp_path, clock_ms=lambda: 1_700_000_000_000)
    with ThreadPoolExecutor(6) as pool:
        refs = list(pool.map(lambda _: publish_plain(registry), range(6)))
    assert sorted(r.version for r in refs) == registry.versions("default")
    assert len({r.version for r in refs}) == 6
    for ref in refs:
        registry.open(ref)


@pytest.mark.parametrize(
    "version", ["", ".", "..", "../other", "a/b", "/etc", "a\\b", "x\0y", ".hidden", "a" * 129]
)
def test_a_version_that_leads_elsewhere_is_refused(registry: Registry, version: str) -> None:
    publish_plain(registry)
    with pytest.raises(ArtifactError, match=r"version must be 1\.\.128"):
        registry.open(ModelRef("default", version))
    with pytest.raises(ArtifactError, match=r"version must be 1\.\.128"):
        registry.promote("default", version)


@pytest.mark.parametrize("domain", ["", "..", "../x", "a/b", "Shop", "a" * 65])
def test_a_domain_that_leads_elsewhere_is_refused(registry: Registry, domain: str) -> None:
    for attempt in (registry.versions, registry.champion, registry.aliases, registry.roll_back):
        with pytest.raises(ArtifactError, match=r"domain must be 1\.\.64"):
            attempt(domain)
    with pytest.raises(ArtifactError, match=r"domain must be 1\.\.64"):
        publish_plain(registry, domain)


def test_the_root_is_a_directory_or_a_file_url(tmp_path: Path) -> None:
    ref = publish_plain(Registry(tmp_path / "a b"))
    assert Registry(f"file://{tmp_path}/a%20b").versions("default") == [ref.version]
    with pytest.raises(ArtifactError, match=r"must be a directory .* got 's3://bucket/models'"):
        Registry("s3://bucket/models")


def test_aliases_follow_promotion_and_rollback(registry: Registry) -> None:
    first, second, third = (publish_plain(registry) for _ in range(3))
    assert registry.champion("default") is None
    assert registry.aliases("default") == {}
    for ref in (first, second, second, third):
        assert registry.promote("default", ref.version) == ref
    registry.promote("default", first.version, alias=CHALLENGER)
    assert registry.aliases("default") == {CHAMPION: third.version, CHALLENGER: first.version}

    assert registry.roll_back("default") == second
    assert registry.roll_back("default") == first
    assert registry.champion("default") == first
    with pytest.raises(NotFound, match="no earlier champion"):
        registry.roll_back("default")


def test_rolling_back_without_a_champion_says_so(registry: Registry) -> None:
    with pytest.raises(NotFound, match="domain 'default' has no champion"):
        registry.roll_back("default")


def test_a_damaged_version_is_not_promoted(registry: Registry) -> None:
    good, bad = publish_plain(registry), publish_plain(registry)
    registry.promote("default", good.version)
    (directory_of(registry, bad) / "rows" / "id.npy").unlink()
    with pytest.raises(ArtifactError, match=r"rows/id\.npy: must exist"):
        registry.promote("default", bad.version)
    with pytest.raises(ArtifactError, match="must be a published version"):
        registry.promote("default", "20990101T000000.000Z")
    with pytest.raises(ArtifactError, match="alias must be one of champion, challenger, got 'best'"):
        registry.promote("default", good.version, alias="best")
    assert registry.champion("default") == good


def test_concurrent_promotions_lose_none_of_the_history(registry: Registry) -> None:
    refs = [publish_plain(registry) for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda r: registry.promote("default", r.version), refs))
    alias = json.loads((registry.root / "default" / "champion.json").read_text())
    assert sorted([alias["version"], *alias["history"]]) == [r.version for r in refs]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 3, "history": []}', b'{"version": "../x", "history": []}']
)
def test_a_damaged_alias_is_refused_until_a_promotion_writes_it_anew(
    registry: Registry, content: bytes
) -> None:
    ref = publish_plain(registry)
    (registry.root / "default" / "champion.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"champion\.json: .*must.*promote a version"):
        registry.champion("default")
    registry.promote("default", ref.version)
    assert registry.champion("default") == ref


def test_earlier_champions_are_told_latest_first_as_far_as_they_are_still_there(registry: Registry) -> None:
    assert registry.earlier_champions("default") == []
    a, b, c = (publish_plain(registry) for _ in range(3))
    for ref in (a, b, c):
        registry.promote("default", ref.version)
    assert registry.earlier_champions("default") == [b, a]
    shutil.rmtree(directory_of(registry, b))
    assert registry.earlier_champions("default") == [a]


def test_prune_spares_what_is_served_or_rolled_back_to(registry: Registry) -> None:
    refs = [publish_plain(registry) for _ in range(6)]
    registry.promote("default", refs[0].version, alias=CHALLENGER)
    registry.promote("default", refs[1].version)
    registry.promote("default", refs[3].version)
    stale = registry.root / "default" / ".publishing-dead"
    stale.mkdir()
    os.utime(stale, (0, 0))
    fresh = registry.root / "default" / ".publishing-alive"
    fresh.mkdir()

    assert registry.prune("default", keep=1) == [refs[2].version, refs[4].version]

    assert registry.versions("default") == [refs[n].version for n in (0, 1, 3, 5)]
    assert not stale.exists()
    assert fresh.exists()
    assert registry.prune("default", keep=1) == []
    assert registry.prune("empty", keep=1) == []
    with pytest.raises(ArtifactError, match="keep must be at least 1, got 0"):
        registry.prune("default", keep=0)


async def test_watching_yields_each_champion_and_outlives_damage(registry: Registry) -> None:
    watch = registry.watch("default", interval_s=0.01)
    waiting = asyncio.ensure_future(anext(watch))
    first, second = [await asyncio.to_thread(publish_plain, registry) for _ in range(2)]
    registry.promote("default", first.version)
    assert await asyncio.wait_for(waiting, 5) == first

    (registry.root / "default" / "champion.json").write_bytes(b"{")
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    (registry.root / "default" / "champion.json").unlink()
    registry.promote("default", second.version)
    assert await asyncio.wait_for(waiting, 5) == second
    await watch.aclose()
