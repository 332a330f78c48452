"""Adapting a stranger as served against fine-tuning the whole model on the same events: quality and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from services.training.evaluation.few_shot import OFF, ON, FewShot
from services.training.evaluation.timing import Timed

FINE_TUNED = "fine-tuned"
# (name in the report, arm, the arm it is compared with)
_PAIRS = (
    ("on_minus_off", ON, OFF),
    ("fine_tuned_minus_off", FINE_TUNED, OFF),
    ("on_minus_fine_tuned", ON, FINE_TUNED),
)


def adaptation_dict(
    table: FewShot,
    times: Mapping[int, Sequence[Timed]],
    *,
    adapter: str,
    task: str,
    fine_tuning: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """As plain values.

    table: with the arms OFF, ON and FINE_TUNED; times: by number of shots; adapter: of the served arm;
    fine_tuning: by seed, see `KeptBody.told`.
    """
    arms = (OFF, ON, FINE_TUNED)
    return {
        "people": len(table.questions),
        "protocol": table.questions.protocol.as_asked(),
        "task": task,
        "seeds": table.seeds,
        "adapter": adapter,
        "fine_tuning": list(fine_tuning),
        "rows": [
            {
                "k": k,
                "ndcg10": {arm: table.ndcg(arm, k) for arm in arms},
                **{name: asdict(table.difference(arm, other, k)) for name, arm, other in _PAIRS},
                "share_worse": {name: table.share_worse(arm, other, k) for name, arm, other in _PAIRS},
                "times": [asdict(timed) for timed in times.get(k, ())],
            }
            for k in table.shots
        ],
        **{name: asdict(table.difference(arm, other)) for name, arm, other in _PAIRS},
    }
