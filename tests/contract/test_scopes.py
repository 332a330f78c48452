"""Every RPC of the public doors asks for exactly one scope: a new one is closed until it is in the table."""

from __future__ import annotations

import pytest

from services.gateway.settings import GatewaySettings
from services.training.service.settings import TrainingServiceSettings
from shared.auth.callers import Scope
from shared.auth.scopes import SCOPES, scope_of
from shared.auth.settings import DoorSettings
from shared.errors import ScopeMissing
from tests.doors import RPCS

METHODS = {rpc.path for rpc in RPCS.values()}


def test_the_table_names_every_rpc_of_the_doors_and_no_other() -> None:
    assert len(METHODS) == 19
    assert set(SCOPES) == METHODS


def test_people_are_exported_and_erased_and_models_chosen_by_admins_only() -> None:
    admin = {method.rpartition("/")[2] for method, scope in SCOPES.items() if scope is Scope.ADMIN}
    assert {"ExportUser", "DeleteUser", "StartTraining", "PromoteModel", "RollBackModel"} <= admin


@pytest.mark.parametrize("method", ["", "/warmstart.gateway.v1.UserService/Unheard", "Recommend"])
def test_a_method_that_is_not_in_the_table_is_refused(method: str) -> None:
    with pytest.raises(ScopeMissing, match="must be one that a scope is known for"):
        scope_of(method)


def test_the_doors_have_a_doors_settings() -> None:
    assert issubclass(GatewaySettings, DoorSettings)
    assert issubclass(TrainingServiceSettings, DoorSettings)
