"""Nothing that a network or a registry reaches is read by what can run it: no pickle and none of its kind.

Ray passes work between the machines of its own cluster by pickle; whoever can write there is the cluster.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.contract.source import ROOT, modules

PACKAGES = frozenset((
    "pickle", "cPickle", "_pickle", "pickle5", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch",
    "jsonpickle",
))  # fmt: skip
BUILTINS = frozenset(("eval", "exec"))
# By the name of the method, whatever it is called on.
METHODS = {
    "read_pickle": "reads a pickle",
    "to_pickle": "writes a pickle",
    "load_model": "builds whatever layers a Keras file names",
    "enable_unsafe_deserialization": "lets Keras files bring code along",
    "unsafe_load": "builds any Python object",
    "full_load": "builds any Python object",
}
NUMPY_IO = frozenset(("load", "save", "savez", "savez_compressed"))


def broken(tree: ast.Module) -> Iterator[str]:
    """What of it could run data as code."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = [name.name for name in names]
            case ast.ImportFrom(module=str() as module):
                found = [module, *(f"{module}.{name.name}" for name in node.names)]
            case _:
                found = []
        yield from (f"line {node.lineno}: imports {n}" for n in found if _is_unsafe(n))
        if isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {why}" for why in _called(node))


def _is_unsafe(name: str) -> bool:
    return name.split(".")[0] in PACKAGES or name.endswith(tuple(f".{package}" for package in PACKAGES))


def _called(node: ast.Call) -> Iterator[str]:
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    match node.func:
        case ast.Name(id=name) if name in BUILTINS:
            yield f"{name} runs what it is given"
        case ast.Attribute(attr=name) if name in METHODS:
            yield f"{name} {METHODS[name]}"
        case ast.Attribute(value=ast.Name(id="yaml"), attr="load"):
            if not isinstance(options.get("Loader"), ast.Attribute) or "Safe" not in ast.dump(
                options["Loader"]
            ):
                yield "yaml.load without a safe loader builds any Python object"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name in NUMPY_IO:
            allowed = options.get("allow_pickle")
            if not (isinstance(allowed, ast.Constant) and allowed.value is False):
                yield f"np.{name} must say allow_pickle=False"
    for name, unsafe in (("allow_pickle", True), ("safe_mode", False)):
        match options.get(name):
            case ast.Constant(value=value) if value is unsafe:
                yield f"{name}={unsafe} lets files bring code along"


def test_nothing_in_the_product_runs_data() -> None:
    found = [
        f"{module.path.relative_to(ROOT)} {why}"
        for module in modules("services", "shared", "deploy")
        for why in broken(module.tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from six.moves import cPickle",
        "import joblib.numpy_pickle",
        "from multiprocessing.reduction import pickle",
        "eval(text)",
        "exec(code)",
        "np.load(path)",
        "numpy.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "np.savez(path, rows=rows)",
        "np.lib.npyio.NpzFile(f, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "pd.read_pickle(path)",
        "tf.keras.models.load_model(path)",
        "keras.layers.deserialize(config, safe_mode=False)",
    ],
)
def test_the_rule_sees_what_it_is_for(line: str) -> None:
    assert list(broken(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "import json",
        "np.load(path, allow_pickle=False)",
        "json.loads(text)",
        "yaml.load(t, Loader=yaml.SafeLoader)",
    ],
)
def test_the_rule_lets_through_what_only_reads(line: str) -> None:
    assert not list(broken(ast.parse(line)))
