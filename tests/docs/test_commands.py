"""Every command and Python block that README.md and the documentation show works.

Commands that train are prepared as `dry=true` prepares them, sweeps by their first job; commands that read a
run read one of a tiny model. What needs a model hub, a GPU or a cluster is composed only.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hydra.errors import HydraException
from packaging.requirements import Requirement

from docs.fill import PAGES, ROOT
from softcue.errors import ConfigError
from softcue.plan import prepare
from softcue.sweep.grid import combinations
from tests.cases import slow_but
from tests.composing import train_config
from tests.docs.commands import (
    NEEDS,
    Call,
    Command,
    calls,
    commands,
    inline_code,
    pages_with_commands,
    python_blocks,
)
from tests.docs.workspace import fewer_tweets, make_workspace, run_entry_point
from tests.entry_points import PROJECT
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone

QUICK = ("README.md", "docs/data.md", "docs/export.md", "docs/predict.md", "docs/sweeps.md")
"""Pages whose commands `make test` runs; `make test-all` runs those of all pages."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workspace")
    with fewer_tweets():
        make_workspace(folder, backbone=backbone, cache=CACHE)
        yield folder


CHECKED: set[tuple[str, ...]] = set()
"""Training commands and chains of earlier pages; prepared only, they leave nothing behind."""


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", slow_but([ROOT / name for name in QUICK], pages_with_commands()), ids=names)
def test_every_command_of_a_page_works(
    page: Path, workspace: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))
    cwd = tmp_path / "work"
    shutil.copytree(workspace, cwd)
    write_examples(page, cwd)
    monkeypatch.syspath_prepend(cwd)
    for command in commands(page):
        call = calls(command.text, cwd=cwd, scratch=tmp_path)
        if command.needs is not None:
            assert command.needs in NEEDS, f"{command.text}: needs {command.needs}?"
            expect_composes(call)
        elif is_training(call):
            monkeypatch.chdir(cwd)
            expect_trainable(call)
        elif call.program.startswith("softcue-"):
            run_once(cheap(call, backbone), cwd=cwd)
        else:
            STATIC[call.program](call.arguments)
    expect_same_tables(cwd)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=names)
def test_every_python_block_of_a_page_runs(
    page: Path, workspace: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))
    shutil.copytree(workspace, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    quick = f'backbone="{backbone}", **{{"trainer.max_epochs": 1}}'
    for block in python_blocks(page):
        exec(block.replace('backbone="smollm2_135m"', quick), {})


def is_training(call: Call) -> bool:
    """Whether the call composes as softcue-train does without further flags, and then trains."""
    flags = [one for one in call.arguments if one.startswith("--") or one == "debug=show"]
    return call.program == "softcue-train" and not flags


def expect_trainable(call: Call) -> None:
    """The run, or the first job of a sweep, has settings that fit together, rows, and a folder."""
    job = call.arguments
    if "-m" in job:
        # Of a search, Optuna chooses the values.
        listed = [one for one in job if one != "-m" and "interval(" not in one]
        job = tuple(combinations({}, listed)[0])
    if job not in CHECKED:
        prepare(train_config(*job, "dry=true"))
        CHECKED.add(job)


def run_once(call: Call, *, cwd: Path) -> None:
    """Run a command; a chain, whose stages are prepared only, once for all pages."""
    key = (call.program, *call.arguments)
    if key not in CHECKED:
        run_entry_point(call, cwd=cwd)
    if call.program == "softcue-chain":
        CHECKED.add(key)


def cheap(call: Call, backbone: Path) -> Call:
    """The call with overrides that keep it from training, loading a large model and waiting."""
    given = call.arguments
    added: list[str] = []
    if call.program == "softcue-train" and "debug=show" in given:
        added = ["backbone=local", f"backbone.path={backbone}"]
    elif call.program == "softcue-train" and not {
        "--help",
        "--help-all",
        "--cfg",
        "--shell-completion",
        "dry=true",
    } & set(given):
        added = ["dry=true"]
    elif call.program == "softcue-chain" and not any(one.startswith("common=") for one in given):
        added = ['common=["dry=true"]']
    elif call.program == "softcue-watch":
        added = ["once=true"]
    return Call(program=call.program, arguments=(*given, *added), stdin=call.stdin)


def expect_composes(call: Call) -> None:
    """What cannot run here has settings that exist; those of a launcher need the launcher."""
    assert call.program == "softcue-train"
    train_config(*(one for one in call.arguments if "launcher" not in one and one != "-m"))


def expect_same_tables(cwd: Path) -> None:
    """A committed table is what its page's commands write from the committed records."""
    written = [path for path in (cwd / "experiments").rglob("*.md") if path.name != "demo.md"]
    for table in written:  # the demo's own records are not committed
        assert table.read_text() == (ROOT / table.relative_to(cwd)).read_text(), table.name


def write_examples(page: Path, folder: Path) -> None:
    """Write the files that a page shows in full."""
    for name, content in re.findall(
        r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def expect_target(arguments: tuple[str, ...]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(arguments) <= set(targets), arguments


def expect_installable(arguments: tuple[str, ...]) -> None:
    assert arguments[0] == "install"
    pinned = (ROOT / "constraints.txt").read_text()
    for one in arguments[1:]:
        if not one.startswith("-"):
            requirement = Requirement(one)
            assert requirement.extras <= PROJECT["optional-dependencies"].keys(), one
            assert requirement.name == "softcue" or f"\n{requirement.name}==" in pinned, one


def expect_module(arguments: tuple[str, ...]) -> None:
    flag, module, *parts = arguments
    assert flag == "-m"
    found = importlib.util.find_spec(module)
    assert found is not None, module
    assert found.origin is not None
    source = Path(found.origin).read_text()
    assert '__name__ == "__main__"' in source, module
    options = [part for part in parts if part.startswith("--")]
    values = {after for part, after in pairwise(parts) if part in options}
    for part in parts:
        known = f'"{part}"' if part in options else f'"{part}":'
        assert part in values or known in source, f"{module} has no part {part}"


def expect_virtual_environment(arguments: tuple[str, ...]) -> None:
    assert arguments == (".venv/bin/activate",)
    assert "BIN := .venv/bin" in (ROOT / "Makefile").read_text()


STATIC: dict[str, Callable[[tuple[str, ...]], None]] = {
    "make": expect_target,
    "pip": expect_installable,
    "python": expect_module,
    "source": expect_virtual_environment,
}
"""Commands that take long, or change more than the folder they run in: their parts exist."""


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_commands_in_prose_exist_and_those_with_settings_stand_in_a_block(page: Path, tmp_path: Path) -> None:
    for span in inline_code(page):
        program = span.split()[0] if span.split() else ""
        if program in STATIC and len(span.split()) > 1:
            call = calls(span, cwd=tmp_path, scratch=tmp_path)
            STATIC[call.program](call.arguments)
        assert not re.match(r"softcue-\w+ .*=", span), f"{span}: put it into a ```bash block"


def test_a_command_that_no_test_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        calls("softcue-fly prompt=prompt_tuning", cwd=tmp_path, scratch=tmp_path)
    with pytest.raises(AssertionError):
        calls("ls", cwd=tmp_path, scratch=tmp_path)


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for arguments in (
        ("experiment=quickstart", "sed=1"),
        ("-m", "sweep=demo", "sed=1,2"),
        ("promt=p_tuning",),
    ):
        call = calls(shlex.join(["softcue-train", *arguments]), cwd=tmp_path, scratch=tmp_path)
        with pytest.raises((ConfigError, HydraException), match=r"sed|promt"):
            expect_trainable(call)


def test_a_mark_ends_the_command_it_is_about() -> None:
    found = [one for page in pages_with_commands() for one in commands(page)]
    assert {one.needs for one in found} == {None, *NEEDS}
    assert Command(page="docs/settings.md", text="softcue-train", needs="a model hub") in found
