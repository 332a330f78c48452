"""`warmstart models list|show|promote|rollback`, on the registry of the data directory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import options, output
from services.cli.failures import CommandError
from shared.artifacts import Manifest, Registry
from shared.domain import ModelRef
from shared.errors import ArtifactError

LIST_EXAMPLES = options.examples("warmstart models list", "warmstart models list --json")
SHOW_EXAMPLES = options.examples("warmstart models show", "warmstart models show 20260101T120000.000Z --json")
PROMOTE_EXAMPLES = options.examples("warmstart models promote 20260101T120000.000Z")
ROLLBACK_EXAMPLES = options.examples("warmstart models rollback")

RegistryDir = Annotated[
    Path | None,
    typer.Option("--registry", help="Registry; by default the data directory's.", file_okay=False),
]
Version = Annotated[str, typer.Argument(help="A version's name, from `warmstart models list`.")]


def list_(
    as_json: options.Json = False,
    registry: RegistryDir = None,
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Published models, oldest first."""
    models = _registry(registry, data_dir)
    aliases = _aliases(models, domain)
    manifests = [models.manifest(ModelRef(domain, v)) for v in models.versions(domain)]
    if as_json:
        rows = [{**_summary(m), "alias": aliases.get(m.version)} for m in manifests]
        output.print_json(rows)
        return
    columns = (
        "version",
        "alias",
        "published (UTC)",
        "adapter",
        output.Column("items", numeric=True),
        output.Column("NDCG@10", numeric=True),
        output.Column("item-kNN's", numeric=True),
    )
    cells = [
        (
            m.version,
            aliases.get(m.version, ""),
            _when(m.created_ms),
            m.adapter.name,
            f"{m.data.items:,}",
            _metric(m, "ndcg10"),
            _metric(m, "ndcg10_item_knn"),
        )
        for m in manifests
    ]
    output.stdout().print(output.table(f"Models of domain {domain}", columns, cells))


def show(
    version: Annotated[str, typer.Argument(help="A version's name; by default the champion.")] = "",
    as_json: options.Json = False,
    registry: RegistryDir = None,
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """One model: settings, tasks, data, metrics."""
    models = _registry(registry, data_dir)
    manifest = models.manifest(_ref(models, domain, version))
    if as_json:
        print(manifest.to_json().decode())
        return
    rows = [(name, str(value)) for name, value in _summary(manifest).items() if name != "metrics"]
    rows += [("tasks", ", ".join(t.name for t in manifest.tasks))]
    rows += [(f"metric {name}", f"{value:.4f}") for name, value in sorted(manifest.metrics.items())]
    output.stdout().print(output.table("", ("what", "value"), rows))


def promote(
    version: Version,
    as_json: options.Json = False,
    registry: RegistryDir = None,
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Make a version the champion; servers take it up while they serve."""
    _say(_registry(registry, data_dir).promote(domain, version), as_json)


def rollback(
    as_json: options.Json = False,
    registry: RegistryDir = None,
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Make the champion before this one the champion again."""
    _say(_registry(registry, data_dir).roll_back(domain), as_json)


def _registry(given: Path | None, data_dir: Path) -> Registry:
    return Registry(given or data_dir / "registry")


def _aliases(models: Registry, domain: str) -> dict[str, str]:
    """Version → alias. A damaged alias is told, and does not hide the versions from whom would mend it."""
    try:
        return {version: name for name, version in models.aliases(domain).items()}
    except ArtifactError as error:
        output.stderr().print(f"no aliases shown: {error}", style="yellow", markup=False, soft_wrap=True)
        return {}


def _ref(models: Registry, domain: str, version: str) -> ModelRef:
    if version:
        return ModelRef(domain, version)
    champion = models.champion(domain)
    if champion is None:
        raise CommandError(f"domain {domain!r} has no champion yet; `warmstart train` publishes one")
    return champion


def _say(ref: ModelRef, as_json: bool) -> None:
    if as_json:
        output.print_json({"domain": ref.domain, "champion": ref.version})
    else:
        output.stdout().print(f"champion of {ref.domain}: {ref.version}")


def _summary(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "domain": manifest.domain,
        "published": _when(manifest.created_ms),
        "adapter": manifest.adapter.name,
        "events": manifest.data.events,
        "users": manifest.data.users,
        "items": manifest.data.items,
        "metrics": dict(manifest.metrics),
    }


def _metric(manifest: Manifest, name: str) -> str:
    """On held-out people, as noted when the version was published."""
    value = manifest.metrics.get(name)
    return "" if value is None else f"{value:.4f}"


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
