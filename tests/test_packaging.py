"""What a user installs: the wheel, its pins, its commands, and no dependency more or less than used."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pytest_socket import SocketConnectBlockedError

import softcue

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# gguf: transformers reads GGUF files with it. wandb: Lightning's WandbLogger writes its runs with it.
USED_THROUGH_ANOTHER = {"gguf", "wandb"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_every_config(wheel: zipfile.ZipFile) -> None:
    configs = {f"softcue/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}

    assert configs
    assert configs <= set(wheel.namelist())


def test_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    # Hatchling leaves out what git ignores, as a clone does.
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}

    assert modules <= set(wheel.namelist())


def test_wheel_holds_every_template(wheel: zipfile.ZipFile) -> None:
    templates = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.jinja")}

    assert templates
    assert templates <= set(wheel.namelist())


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert tops == {"softcue", "hydra_plugins", f"softcue-{softcue.__version__}.dist-info"}
    # One module, where Hydra looks for sweepers; other packages share the folder.
    plugins = [name for name in wheel.namelist() if name.startswith("hydra_plugins/")]
    assert plugins == ["hydra_plugins/softcue_sweepers.py"]
    assert "softcue/py.typed" in wheel.namelist()


def test_wheel_carries_the_packages_own_version(wheel: zipfile.ZipFile) -> None:
    metadata = Parser().parsestr(wheel.read(f"softcue-{softcue.__version__}.dist-info/METADATA").decode())

    assert metadata["Version"] == softcue.__version__


def test_installed_package_finds_its_configs_from_any_folder(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "from softcue.configs import CONFIG_PATH; print(CONFIG_PATH)"

    found = _run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))

    assert Path(found.strip()) == tmp_path / "site" / "softcue" / "conf"


def test_importing_the_package_imports_no_torch() -> None:
    _run(sys.executable, "-c", "import softcue, sys; assert 'torch' not in sys.modules")


def test_every_command_names_a_function_that_exists() -> None:
    for target in PROJECT["scripts"].values():
        module, _, function = target.partition(":")
        tree = ast.parse((ROOT / "src" / f"{module.replace('.', '/')}.py").read_text())

        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, target


def test_every_core_dependency_is_used() -> None:
    imported = _imported_distributions()

    assert _names(PROJECT["dependencies"]) - USED_THROUGH_ANOTHER <= imported


def test_every_import_is_a_declared_dependency() -> None:
    optional = PROJECT["optional-dependencies"]
    declared = _names([*PROJECT["dependencies"], *(line for extra in optional.values() for line in extra)])

    assert _imported_distributions() <= declared


def test_constraints_pin_every_dependency_exactly() -> None:
    pins = _pins()
    direct = _names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]) - {"softcue"}

    assert direct <= pins.keys()
    assert _names(PROJECT["optional-dependencies"]["peft"]) <= pins.keys()
    assert _names(PROJECT["optional-dependencies"]["tensorboard"]) <= pins.keys()


def test_constraints_fit_any_build_of_a_package() -> None:
    for name, version in _pins().items():
        assert Version(version).local is None, f"{name}=={version} exists for one kind of machine only"


def test_network_is_blocked_in_tests() -> None:
    # This machine by a name that is not allowed: were the block gone, nothing would leave it.
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection(("0.0.0.0", 9))


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)

    assert re.findall(r"^  make (\S+)", _run("make", "help"), flags=re.MULTILINE) == phony.split()


def _imported_distributions() -> set[str]:
    """The distributions that src/ imports, or that a `_target_` in conf/ names."""
    modules = {
        name.split(".")[0]
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _modules(node)
    }
    for path in (ROOT / "conf").rglob("*.yaml"):
        modules |= set(re.findall(r"_target_: (\w+)\.", path.read_text()))
    providers = importlib.metadata.packages_distributions()
    others = modules - sys.stdlib_module_names - {"softcue", "hydra_plugins"}
    return {canonicalize_name(providers[module][0]) for module in others}


def _modules(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case _:
            return []


def _names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def _pins() -> dict[str, str]:
    """The constraints by package name; anything but `name==version` fails here."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def _run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
