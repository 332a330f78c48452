"""The source tree as the contract tests see it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Package by server, named as its settings and its area of the contract are.
SERVERS = {
    "gateway": "services.gateway",
    "features": "services.features",
    "adaptation": "services.adaptation",
    "scoring": "services.scoring",
    "training": "services.training.service",  # around it stands what it runs
}


@dataclass(frozen=True)
class Module:
    """One Python file of ours."""

    path: Path

    @cached_property
    def name(self) -> str:
        """Dotted: services.gateway.app."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), str(self.path))

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Every module imported anywhere in the file, in functions and under TYPE_CHECKING too."""
        found: list[str] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    found.append("." * node.level + base)
                else:
                    found.extend((base, *(f"{base}.{alias.name}" for alias in node.names)))
        return tuple(found)

    def imports_any(self, *packages: str) -> list[str]:
        return [i for i in self.imports if any(i == p or i.startswith(p + ".") for p in packages)]

    def within(self, *packages: str) -> bool:
        return any(self.name == p or self.name.startswith(p + ".") for p in packages)


def modules(*folders: str) -> Iterator[Module]:
    """Every Python file below the folders of the repository."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield Module(path)
