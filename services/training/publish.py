"""From a finished export to a published version, and the gate before it serves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.training.evaluation.few_shot import KNN, LATE, POPULARITY, FewShot
from services.training.worker import DRAFT_FILE
from shared.artifacts import ManifestDraft, Registry
from shared.domain import ModelRef

_DRAFTS: TypeAdapter[ManifestDraft] = TypeAdapter(ManifestDraft)


def publish(
    registry: Registry, domain: str, export: Path, metrics: Mapping[str, float] | None = None
) -> ModelRef:
    """Copies an export into the registry as a new version; metrics join those of training, but a version
    that promises privacy has none."""
    draft = _DRAFTS.validate_json((export / DRAFT_FILE).read_bytes())
    # Figures of a private training are of people's own events: the promise is of all that is published.
    told = {} if draft.privacy else {**draft.metrics, **(metrics or {})}
    draft = replace(draft, metrics=told)

    def build(directory: Path) -> None:
        shutil.copytree(export, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DRAFT_FILE))

    return registry.publish(domain, build, draft)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate may become champion, and why (not)."""

    passed: bool
    reasons: tuple[str, ...]


def gate(table: FewShot, candidate: str, champion: str | None, popular: str = POPULARITY) -> Verdict:
    """The candidate must beat popularity (the arm `popular`), and must not be worse than the champion.

    "Not worse": the paired 95% interval of candidate − champion, over held-out people, is not wholly
    below 0. table: with the arm `candidate` and, where there is a champion that still loads, `champion`.
    """
    people = len(table.questions)
    if not people:
        return Verdict(False, ("no held-out person has enough events to judge by",))
    own, least = table.mean_ndcg(candidate), table.mean_ndcg(popular)
    others = ", ".join(f"{arm} has {table.mean_ndcg(arm):.4f}" for arm in (KNN, LATE) if arm in table.arms)
    reasons = [
        f"NDCG@10 {own:.4f} {'beats' if own > least else 'does not beat'} {popular}'s {least:.4f}"
        f" ({people} held-out people, mean over k ≥ 1; {others})"
    ]
    passed = own > least
    if champion is None:
        reasons.append("there is no champion to compare with")
    else:
        change = table.difference(candidate, champion)
        passed = passed and not change.says_worse
        reasons.append(
            f"against the champion's {table.mean_ndcg(champion):.4f}: {change.mean:+.4f}"
            f" [{change.low:+.4f}, {change.high:+.4f}], {'worse' if change.says_worse else 'not worse'}"
        )
    return Verdict(passed, tuple(reasons))


def manifest_metrics(table: FewShot, candidate: str) -> dict[str, float]:
    """Figures that go into the manifest: NDCG@10 and HR@10 by k, and the baselines' means."""
    found: dict[str, float] = {}
    for shots in table.shots:
        found[f"ndcg10_k{shots}"] = table.ndcg(candidate, shots)
        found[f"hr10_k{shots}"] = table.hr(candidate, shots)
    found["ndcg10"] = table.mean_ndcg(candidate)
    found["ndcg10_popularity"] = table.mean_ndcg(POPULARITY)
    found["ndcg10_item_knn"] = table.mean_ndcg(KNN)
    found["held_out_people"] = float(len(table.questions))
    return found


def as_json(value: Any) -> str:
    """For reports people read with programs."""
    return json.dumps(value, indent=2, ensure_ascii=False)
