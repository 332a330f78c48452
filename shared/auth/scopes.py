"""Which scope each RPC of the public doors asks for: one table, held complete by `tests/contract`.

Lists and feedback are what a shop's backend does at every visit: `recommend` and `feedback`. What people are,
whom they know and that a visitor has signed in (MergeUsers) belongs to feedback. To take a person's data out
or to erase them is `admin`, as is all that decides which model serves: a key that leaks from a backend can do
neither.
"""

from __future__ import annotations

from shared.auth.callers import Scope
from shared.errors import ScopeMissing

_GATEWAY, _TRAINING = "/warmstart.gateway.v1", "/warmstart.training.v1"
_RECOMMENDATION = f"{_GATEWAY}.RecommendationService"
_CATALOG = f"{_GATEWAY}.CatalogService"
_USER = f"{_GATEWAY}.UserService"
_TRAININGS = f"{_TRAINING}.TrainingService"

SCOPES: dict[str, Scope] = {
    f"{_RECOMMENDATION}/Recommend": Scope.RECOMMEND,
    f"{_RECOMMENDATION}/ListSimilarItems": Scope.RECOMMEND,
    f"{_RECOMMENDATION}/RecordFeedback": Scope.FEEDBACK,
    f"{_CATALOG}/UpsertItems": Scope.CATALOGUE,
    f"{_CATALOG}/GetItems": Scope.CATALOGUE,
    f"{_CATALOG}/ListItems": Scope.CATALOGUE,
    f"{_CATALOG}/DeleteItems": Scope.CATALOGUE,
    f"{_USER}/UpsertUsers": Scope.FEEDBACK,
    f"{_USER}/UpsertRelations": Scope.FEEDBACK,
    f"{_USER}/MergeUsers": Scope.FEEDBACK,
    f"{_USER}/ExportUser": Scope.ADMIN,
    f"{_USER}/DeleteUser": Scope.ADMIN,
    f"{_TRAININGS}/StartTraining": Scope.ADMIN,
    f"{_TRAININGS}/WatchTraining": Scope.ADMIN,
    f"{_TRAININGS}/ListTrainings": Scope.ADMIN,
    f"{_TRAININGS}/StopTraining": Scope.ADMIN,
    f"{_TRAININGS}/ListModels": Scope.ADMIN,
    f"{_TRAININGS}/PromoteModel": Scope.ADMIN,
    f"{_TRAININGS}/RollBackModel": Scope.ADMIN,
}


def scope_of(method: str) -> Scope:
    """Of a full method name, "/package.Service/Method". ScopeMissing where the table does not have it."""
    scope = SCOPES.get(method)
    if scope is None:
        raise ScopeMissing(f"method must be one that a scope is known for, got {method!r}")
    return scope
