"""What the pages say about the code is true: tables, options, settings, rooms, fields, links."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from torch import nn

from docs import options as options_page
from docs.fill import BLOCK, PAGES, ROOT, filled
from experiments.speed.table import markdown
from experiments.trust import attacks
from softcue.build.prompted import build_prompt
from softcue.configs import CONFIG_PATH
from softcue.configs.groups import GROUPS, options
from softcue.data.template import compose
from softcue.runs.record import RunRecord, Status
from tests.docs.commands import inline_code
from tests.docs.test_commands import names, write_examples
from tests.tiny import tiny_lm

DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_generated_tables_are_the_present_ones(page: Path) -> None:
    assert filled(page.read_text()) == page.read_text(), "run `make docs`"


def test_the_speed_and_demo_tables_are_generated() -> None:
    named = {found["file"] for page in PAGES for found in BLOCK.finditer(page.read_text())}
    assert {"experiments/speed/table.md", "experiments/quickstart/demo.md"} <= named


def test_the_speed_tables_are_those_of_the_measurements() -> None:
    speed = ROOT / "experiments" / "speed"
    measurements = json.loads((speed / "results.json").read_text())
    assert markdown(measurements) == (speed / "table.md").read_text(), (
        "run `python -m experiments.speed.table`"
    )


def test_the_attack_table_is_that_of_its_results() -> None:
    trust = ROOT / "experiments" / "trust"
    results = json.loads((trust / "results.json").read_text())["attacks"]
    tallies = [attacks.Tally(**{**one, "defects": tuple(one["defects"])}) for one in results]
    assert attacks.markdown(tallies) == (trust / "table.md").read_text()


def test_the_page_of_options_is_the_present_one() -> None:
    assert options_page.PAGE.read_text() == options_page.page(), "run `make docs`"


def test_the_page_of_options_has_every_group_that_a_user_can_choose_from() -> None:
    folders = {path.parent for path in CONFIG_PATH.glob("*/**/[!_]*.yaml")}
    groups = {str(folder.relative_to(CONFIG_PATH)) for folder in folders}
    assert groups - {"hydra", "paths", "tuned", "prompt/baseline"} == GROUPS.keys()


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"```\{toctree\}.*?\n\n(.*?)```", (DOCS / "index.md").read_text(), flags=re.DOTALL)
    files = (*DOCS.glob("*.md"), *(DOCS / "notebooks").glob("*.ipynb"))
    pages = [path.relative_to(DOCS).with_suffix("") for path in files]
    assert {*(name for entries in listed for name in entries.split()), "index"} == {*map(str, pages)}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_setting_and_option_that_a_page_names_exists(page: Path) -> None:
    for word in (word for span in inline_code(page) for word in span.split()):
        name, _, value = word.partition("=")
        if value and is_group(name):
            for choice in re.split(r"[|,]", value.strip("[]")):
                assert "…" in choice or choice in options(name), word
        elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name) and name.split(".")[0] in TOP_LEVEL:
            assert name in SETTINGS or Path(name).suffix in FILES, word


def is_group(name: str) -> bool:
    return name in GROUPS and name not in ("chain", "report")


def setting_names() -> Iterator[str]:
    """Dotted names of the settings in every YAML of softcue-train, below the name of their group."""
    for path in CONFIG_PATH.rglob("*.yaml"):
        place = path.relative_to(CONFIG_PATH)
        content = yaml.safe_load(path.read_text())
        if (
            place.parts[0] in ("tuned", "sweep", "experiment", "debug", "chain", "report")
            or place.stem in APPS
        ):
            continue
        package = ".".join(part for part in place.parts[:-1] if part not in ("baseline", "default"))
        yield from dotted(content, package)


def dotted(node: object, above: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            path = f"{above}.{key}" if above else str(key)
            yield path
            yield from dotted(value, path)


APART = ("tuned", "sweep", "experiment", "debug", "chain", "report")
FILES = (".safetensors", ".html", ".csv")
APPS = ("predict", "report", "export", "inspect", "prompts", "watch", "chain")
SETTINGS = frozenset(setting_names())
TOP_LEVEL = frozenset(name.split(".")[0] for name in SETTINGS) - {"hydra"}


def test_the_new_method_that_the_page_shows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(DOCS / "extending.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["prompt=repeated", f"hydra.searchpath=[file://{tmp_path / 'my_conf'}]"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        settings = hydra_compose(config_name="train", overrides=overrides)
    prompt = build_prompt(settings, tiny_lm("llama").spec, compose(settings.prompt.layout, "{text}"))
    assert isinstance(prompt, nn.Module)
    embeddings = prompt().embeddings_TPD
    assert embeddings is not None
    assert embeddings.shape[:2] == (1, 20)
    assert [parameter.numel() for parameter in prompt.parameters()] == [embeddings.shape[2]]


def test_the_page_of_architecture_has_every_room_in_the_order_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    table = (DOCS / "architecture.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    rooms = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    assert rooms == [re.findall(r"\w+", layer) for layer in layers]


def test_the_page_of_the_record_format_has_every_field_and_status() -> None:
    spans = set(inline_code(DOCS / "records.md"))
    assert record_fields(RunRecord) - {"type", "message", "commit", "dirty"} <= spans
    assert set(get_args(Status)) <= spans


def record_fields(kind: type) -> set[str]:
    """The names of a dataclass's fields, and of those of dataclasses in them."""
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    inner = [part for name in hints for part in (hints[name], *get_args(hints[name])) if is_dataclass(part)]
    own = {field.name for field in fields(kind)}
    return own.union(*(record_fields(part) for part in inner if isinstance(part, type)))
