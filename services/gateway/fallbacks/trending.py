from __future__ import annotations

from services.gateway.draft import Draft, Rung
from services.gateway.fallbacks import fallen
from services.gateway.trending import TrendingSnapshot


class TrendingFallback:
    """The ladder's last rung: what is trending, then the newest items. It needs nobody."""

    name = "trending"

    def __init__(self, trending: TrendingSnapshot) -> None:
        self._trending = trending

    def fall(self, draft: Draft) -> Draft:
        return fallen(draft, Rung.TRENDING, (), self._trending)
