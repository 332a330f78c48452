"""The registry of published models: `<root>/<domain>/<version>/`, immutable, verified, never pickled.

manifest.py   what a version says of itself
privacy.py    what a privately trained version promises
layout.py     the files of a version, and how they are written
signature.py  who published a version
reading.py    its small files, before they are believed
artifact.py   opening and verifying a version
aliases.py    `champion` and `challenger`: small files replaced atomically, with history
registry.py   publish, open, promote, roll back, watch, prune
"""

from shared.artifacts.aliases import CHALLENGER, CHAMPION
from shared.artifacts.artifact import Artifact, ArtifactRows
from shared.artifacts.layout import VocabularyItem, write_items, write_rows
from shared.artifacts.manifest import AdapterInfo, DataInfo, Dims, Manifest, ManifestDraft, TrendInfo
from shared.artifacts.privacy import Mechanism, PrivacyInfo
from shared.artifacts.registry import Registry
from shared.artifacts.signature import Signer, TrustedKeys

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "AdapterInfo",
    "Artifact",
    "ArtifactRows",
    "DataInfo",
    "Dims",
    "Manifest",
    "ManifestDraft",
    "Mechanism",
    "PrivacyInfo",
    "Registry",
    "Signer",
    "TrendInfo",
    "TrustedKeys",
    "VocabularyItem",
    "write_items",
    "write_rows",
]
