"""Published versions, and who is champion: the registry as operators see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from shared.artifacts import CHAMPION, Manifest, Registry
from shared.domain import ModelRef
from shared.errors import ArtifactError, NotFound, WrongState

# Where a rollback leads.
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Model:
    """One version; manifest None where it cannot be read, for the reason that `problem` gives."""

    version: str
    aliases: tuple[str, ...] = ()
    manifest: Manifest | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ModelPage:
    """Models, newest first. more: whether older ones follow; aliases_problem: why none are given."""

    models: tuple[Model, ...]
    more: bool
    aliases_problem: str = ""


class Models:
    """A registry that is asked off the event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def page(self, domain: str, count: int, before: str = "") -> ModelPage:
        """Up to `count` versions, those before one where it is given."""
        return await asyncio.to_thread(self._page, domain, count, before)

    async def promote(self, domain: str, version: str) -> ModelRef:
        """Raises NotFound, or ArtifactError where the version is damaged."""
        return await asyncio.to_thread(self._promote, domain, version)

    async def roll_back(self, domain: str) -> ModelRef:
        """Raises WrongState where there is no earlier champion, ArtifactError where it is damaged."""
        try:
            return await asyncio.to_thread(self._registry.roll_back, domain)
        except NotFound as error:
            raise WrongState(str(error)) from error

    def _page(self, domain: str, count: int, before: str) -> ModelPage:
        versions = [v for v in reversed(self._registry.versions(domain)) if not before or v < before]
        try:
            aliases, problem = self._aliases(domain), ""
        except ArtifactError as error:
            aliases, problem = {}, str(error)
        models = tuple(self._model(domain, v, aliases.get(v, ())) for v in versions[:count])
        return ModelPage(models, len(versions) > count, problem)

    def _aliases(self, domain: str) -> dict[str, tuple[str, ...]]:
        """By version."""
        named = list(self._registry.aliases(domain).items())
        named += [(PREVIOUS, ref.version) for ref in self._registry.earlier_champions(domain)[:1]]
        found: dict[str, tuple[str, ...]] = {}
        for name, version in sorted(named, key=lambda pair: pair[0] != CHAMPION):
            found[version] = (*found.get(version, ()), name)
        return found

    def _model(self, domain: str, version: str, aliases: tuple[str, ...]) -> Model:
        try:
            return Model(version, aliases, self._registry.manifest(ModelRef(domain, version)))
        except ArtifactError as error:
            return Model(version, aliases, problem=str(error))

    def _promote(self, domain: str, version: str) -> ModelRef:
        if version not in self._registry.versions(domain):
            raise NotFound(f"domain {domain!r} has no published version {version!r}")
        return self._registry.promote(domain, version)
