"""How Ray Train connects TensorFlow workers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig

_LOOPBACK = "127.0.0.1"


@dataclass
class TensorflowBackendConfig(BackendConfig):  # type: ignore[misc]
    """Sets TF_CONFIG on each worker.

    Ray's own `TensorflowConfig` does so too, but also turns legacy Keras on, which this project's
    Keras 3 models cannot use; and it makes the controller process import TensorFlow for nothing.
    Workers meet at their nodes' addresses, and where all are on one node, on its loopback interface: that
    needs no network, and no firewall is in the way.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        return _TensorflowBackend


class _TensorflowBackend(Backend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TensorflowBackendConfig) -> None:
        nodes = {worker.metadata.node_id for worker in worker_group.get_workers()}
        addresses = worker_group.execute(_free_address, len(nodes) == 1)
        ray.get(
            [
                worker_group.execute_single_async(index, _set_tf_config, addresses, index)
                for index in range(len(worker_group))
            ]
        )


def _free_address(one_node: bool) -> str:
    host, port = get_address_and_port()
    return f"{_LOOPBACK if one_node else host}:{port}"


def _set_tf_config(addresses: list[str], index: int) -> None:
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    os.environ["TF_CONFIG"] = json.dumps(cluster)
