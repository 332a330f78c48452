"""`warmstart models list|show|promote|rollback|sign`, on the data directory's registry; all but show and sign
on a training service's too."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from warmstart.training.v1 import training_service_pb2 as pb

from services.cli import options, output
from services.cli.failures import CommandError
from services.cli.target import service_target
from services.cli.training.clients import TrainingClient, open_training
from shared.artifacts import Manifest, Registry, Signer, TrustedKeys
from shared.domain import ModelRef
from shared.errors import ArtifactError, InvalidInput, NotFound

_SIGNING_KEY_VARIABLE = "WARMSTART_TRAINING_REGISTRY_SIGNING_KEY"
_PUBLIC_KEYS_VARIABLE = "WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS"
T = TypeVar("T")
Row = dict[str, Any]
LIST_EXAMPLES = options.examples("warmstart models list", "warmstart models list --service local --json")
SHOW_EXAMPLES = options.examples("warmstart models show", "warmstart models show 20260101T120000.000Z --json")
PROMOTE_EXAMPLES = options.examples("warmstart models promote 20260101T120000.000Z")
SIGN_EXAMPLES = options.examples("warmstart models sign 20260101T120000.000Z --signing-key registry-key.pem")
ROLLBACK_EXAMPLES = options.examples("warmstart models rollback")

RegistryDir = Annotated[
    Path | None,
    typer.Option("--registry", help="Registry; by default the data directory's.", file_okay=False),
]
Version = Annotated[str, typer.Argument(help="A version's name, from `warmstart models list`.")]


def list_(
    as_json: options.Json = False,
    registry: RegistryDir = None,
    service: options.InService = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Published models, oldest first."""
    if service:
        rows, notes = _listed(_target(service, registry, data_dir), domain)
    else:
        rows, notes = _read(_existing(_registry(registry, data_dir), registry, data_dir, domain), domain)
    for note in notes:
        output.stderr().print(note, style="yellow", markup=False, soft_wrap=True)
    if not rows:
        nothing = f"domain {domain} has no models yet: train one with `warmstart train`"
        output.stderr().print(nothing, style="yellow", markup=False, soft_wrap=True)
    if as_json:
        output.print_json(rows)
        return
    columns = (
        "version",
        "alias",
        "published (UTC)",
        "preset",
        "adapter",
        output.Column("items", numeric=True),
        output.Column("NDCG@10", numeric=True),
        output.Column("item-kNN's", numeric=True),
    )
    cells = [
        (
            row["version"],
            row["alias"] or "",
            row["published"],
            row["preset"],
            row["adapter"],
            f"{row['items']:,}",
            _metric(row, "ndcg10"),
            _metric(row, "ndcg10_item_knn"),
        )
        for row in rows
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
    if version:
        _require_published(models, domain, version, _there(registry, data_dir, domain))
    manifest = models.manifest(_ref(models, domain, version))
    if as_json:
        print(manifest.to_json().decode())
        return
    rows = [(name, str(value)) for name, value in _summary(manifest).items() if name != "metrics"]
    rows += [("tasks", ", ".join(t.name for t in manifest.tasks)), *_scales(manifest), *_privacy(manifest)]
    rows += [(f"metric {name}", f"{value:.4f}") for name, value in sorted(manifest.metrics.items())]
    output.stdout().print(output.table("", ("what", "value"), rows))


def promote(
    version: Version,
    as_json: options.Json = False,
    registry: RegistryDir = None,
    service: options.InService = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Make a version the champion; servers take it up while they serve.

    Where WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS names a file of public keys, here or in the training service
    that is asked, only a version that one of them signed.
    """
    if service:
        target = _target(service, registry, data_dir)
        _say(domain, _asked(target, domain, lambda client: _promoted(client, version)), as_json)
    else:
        models = _trusting(_registry(registry, data_dir))
        _require_published(models, domain, version, _there(registry, data_dir, domain))
        _say(domain, models.promote(domain, version).version, as_json)


def rollback(
    as_json: options.Json = False,
    registry: RegistryDir = None,
    service: options.InService = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Make the champion before this one the champion again, by the same keys as `models promote`."""
    if service:
        target = _target(service, registry, data_dir)
        _say(domain, _asked(target, domain, lambda client: client.roll_back()), as_json)
    else:
        models = _trusting(_registry(registry, data_dir))
        _say(domain, models.roll_back(domain).version, as_json)


def sign(
    version: Version,
    signing_key: Annotated[
        Path,
        typer.Option(
            envvar=_SIGNING_KEY_VARIABLE,
            help="PEM file of the Ed25519 private key, without password.",
            show_default=False,
            dir_okay=False,
        ),
    ],
    as_json: options.Json = False,
    registry: RegistryDir = None,
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Sign a version that was published before its servers asked for signatures, or by another key.

    You say by it that the version may run: its files are checked against its own manifest alone. Servers that
    have refused it take it up once it is promoted again.
    """
    signer = Signer.read("--signing-key", str(signing_key))
    models = _registry(registry, data_dir)
    _require_published(models, domain, version, _there(registry, data_dir, domain))
    models.sign(ModelRef(domain, version), signer)
    if as_json:
        output.print_json({"domain": domain, "signed": version})
    else:
        output.stdout().print(f"signed: {version} of {domain}")


def _target(service: str, registry: Path | None, data_dir: Path) -> str:
    if registry is not None:
        raise typer.BadParameter("give either --service or --registry: a service has a registry of its own")
    return service_target(service, data_dir)


def _asked(target: str, domain: str, ask: Callable[[TrainingClient], Awaitable[T]]) -> T:
    """What the training service answers."""

    async def run() -> T:
        async with open_training(target, domain) as client:
            return await ask(client)

    return asyncio.run(run())


def _registry(given: Path | None, data_dir: Path) -> Registry:
    return Registry(given or data_dir / "registry")


def _trusting(models: Registry) -> Registry:
    """The same, as the training service opens it: without a trusted signature no version becomes champion.

    Raises SettingsError where the file of keys is not good.
    """
    keys = os.environ.get(_PUBLIC_KEYS_VARIABLE, "")
    return Registry(models.root, trusted=TrustedKeys.of_file(_PUBLIC_KEYS_VARIABLE, keys))


def _there(registry: Path | None, data_dir: Path, domain: str) -> str:
    """What makes another command mean the same registry and domain."""
    where = f" --registry {shlex.quote(str(registry))}" if registry else options.same_place(data_dir)
    return where if domain == options.DOMAIN else f"{where} --domain {domain}"


def _existing(models: Registry, registry: Path | None, data_dir: Path, domain: str) -> Registry:
    """Raises CommandError for a place or domain that is not there: an empty list would say that no model was
    published yet, where the name is mistyped."""
    option, place = ("--registry", registry) if registry else ("--data-dir", data_dir)
    if not place.is_dir():
        raise CommandError(
            f"{option} must be a directory that exists, got {str(place)!r}: say where models are published, "
            "or train one with `warmstart train`"
        )
    domains = models.domains()
    if domains and domain not in domains:
        raise CommandError(
            f"--domain must be one that has models in {models.root} ({', '.join(domains)}), got {domain!r}"
        )
    return models


def _require_published(models: Registry, domain: str, version: str, where: str) -> None:
    if version not in models.versions(domain):
        raise CommandError(_no_such(domain, version, f"in {models.root}", where))


async def _promoted(client: TrainingClient, version: str) -> str:
    try:
        return await client.promote(version)
    except (NotFound, InvalidInput) as error:
        if isinstance(error, InvalidInput) and all(v.field != "version" for v in error.violations):
            raise  # of another field, such as the domain
        raise CommandError(_no_such(client.domain, version, f"in {client.target}", client.where)) from error


def _no_such(domain: str, version: str, place: str, where: str) -> str:
    return (
        f"version must be a published one of domain {domain!r} {place}, got {version!r}: "
        f"`warmstart models list{where}` shows them"
    )


def _read(models: Registry, domain: str) -> tuple[list[Row], list[str]]:
    """The versions of a registry, and notes on what cannot be shown: a damaged alias does not hide the
    versions from whom would mend it."""
    notes: list[str] = []
    aliases: dict[str, str] = {}
    try:
        aliases |= {ref.version: "previous" for ref in models.earlier_champions(domain)[:1]}
        aliases |= {version: name for name, version in models.aliases(domain).items()}
    except ArtifactError as error:
        notes.append(f"no aliases shown: {error}")
    manifests = [models.manifest(ModelRef(domain, v)) for v in models.versions(domain)]
    return [{**_summary(m), "alias": aliases.get(m.version)} for m in manifests], notes


def _listed(target: str, domain: str) -> tuple[list[Row], list[str]]:
    """The same, as the training service lists them."""
    models, problem = _asked(target, domain, lambda client: client.models())
    notes = [f"no aliases shown: {problem}"] if problem else []
    notes += [f"no more is known of {m.version}: {m.problem}" for m in models if m.problem]
    return [_row(model, domain) for model in reversed(models)], notes


def _row(model: pb.PublishedModel, domain: str) -> Row:
    return {
        "version": model.version,
        "domain": domain,
        "published": _when(model.created_ms) if model.created_ms else "",
        "preset": model.preset,
        "adapter": model.adapter,
        "events": model.events,
        "users": model.users,
        "items": model.items,
        "metrics": dict(model.metrics),
        "alias": ", ".join(model.aliases) or None,
    }


def _ref(models: Registry, domain: str, version: str) -> ModelRef:
    if version:
        return ModelRef(domain, version)
    champion = models.champion(domain)
    if champion is None:
        raise CommandError(f"domain {domain!r} has no champion yet; `warmstart train` publishes one")
    return champion


def _say(domain: str, champion: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"domain": domain, "champion": champion})
    else:
        output.stdout().print(f"champion of {domain}: {champion}")


def _summary(manifest: Manifest) -> Row:
    return {
        "version": manifest.version,
        "domain": manifest.domain,
        "published": _when(manifest.created_ms),
        "preset": str(manifest.model.get("preset", "")),
        "adapter": manifest.adapter.name,
        "events": manifest.data.events,
        "users": manifest.data.users,
        "items": manifest.data.items,
        "metrics": dict(manifest.metrics),
    }


def _scales(manifest: Manifest) -> list[tuple[str, str]]:
    """How much a list goes by what is chosen next and now; versions that noted no numbers say less."""
    rows = []
    if manifest.dims.trends:
        trends = manifest.trends
        rows += [("trends: half-life", f"{trends.half_life_s / 86_400:g} days")]
        rows += [("trends: the long run counts", f"as much as {trends.prior:,.1f} recent events")]
    scales = manifest.model.get("scales", {})
    for name in ("transitions", "trends"):
        for task, numbers in scales.get(name, {}).items():
            by_shots = zip(scales["shots"], numbers, strict=False)
            told = ", ".join(f"{shots}: {number:g}" for shots, number in by_shots)
            rows.append((f"{name}: weight for {task}, by events of the person", told))
    return rows


def _privacy(manifest: Manifest) -> list[tuple[str, str]]:
    """What the version promises people who were trained on, and what it was spent on."""
    if manifest.privacy is None:
        return []
    privacy = manifest.privacy
    rows = [("privacy: promised each person", f"ε = {privacy.epsilon:.3f}, δ = {privacy.delta:g}")]
    for m in privacy.mechanisms:
        told = f"noise {m.noise_multiplier:.3f} × sensitivity {m.sensitivity:g}"
        asked = f", {m.steps} steps, each of {m.sampling:g} of the people" if m.steps > 1 else ""
        rows.append((f"privacy: {m.name}", told + asked))
    return [*rows, ("privacy: composed by", privacy.accountant)]


def _metric(row: Row, name: str) -> str:
    """On held-out people, as noted when the version was published."""
    value = row["metrics"].get(name)
    return "" if value is None else f"{value:.4f}"


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
