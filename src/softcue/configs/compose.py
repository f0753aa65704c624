"""Configs of softcue-train from overrides, as Hydra composes them, for one run or for a thousand."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, OverrideParseException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.configs.kinds import expect_kinds, mappings_of
from softcue.configs.mistakes import explain, no_such_setting
from softcue.configs.options import own_folders, without_null_groups
from softcue.errors import ConfigError
from softcue.runs.identity import leaves, paths_as

log = logging.getLogger(__name__)

OPEN_GROUPS = ("callbacks", "logger", "metrics", "trainer")
"""Groups to which any setting may be added; what they configure checks it."""

_NAME = re.compile(r"(?<=[{:,])\s*(\.*)(\w+(?:\.\w+)*)")
"""A setting named in an interpolation: `${a.b}`, `${..a.b}`, `${resolver:a.b,c}`."""


@dataclass(frozen=True, kw_only=True)
class _Base:
    """What the files of one choice of groups give."""

    files: Sequence[ResultDefault]
    merge: Callable[[Sequence[ResultDefault]], DictConfig]

    @cached_property
    def config(self) -> bytes:
        """All files, merged and pickled."""
        return pickle.dumps(self.merge(self.files))

    @cached_property
    def own(self) -> Mapping[str, Any]:
        """The groups' own settings, unresolved: tuned settings, experiments and the like are at the root."""
        own = self.merge([file for file in self.files if file.package or file.primary])
        return cast(dict[str, Any], OmegaConf.to_container(own, resolve=False))


def config_loader(*folders: str | Path) -> ConfigLoader:
    """A loader of softcue's YAML and that of `folders`, apart from a Hydra app that may be running."""
    if version.VersionBase.instance().getbase() is None:
        version.setbase("1.3")
    search_path = create_config_search_path(str(CONFIG_PATH))
    for folder in folders:
        search_path.prepend("own", str(Path(folder).resolve()), "schema")
    return ConfigLoaderImpl(search_path)


class _Copies:
    """The files of a repository, each time as a copy: Hydra merges files into the nodes of earlier ones."""

    def __init__(self, files: IConfigRepository) -> None:
        self._files = files
        self._pickled: dict[str, bytes] = {}

    def load_config(self, config_path: str) -> ConfigResult:
        if config_path not in self._pickled:
            self._pickled[config_path] = pickle.dumps(self._files.load_config(config_path))
        return cast(ConfigResult, pickle.loads(self._pickled[config_path]))

    def get_schema_source(self) -> ConfigSource:
        return self._files.get_schema_source()


class Composer:
    """Composes configs, once for each choice of groups; values are put into a copy.

    Hydra takes a tenth of a second for each config, of which a sweep of a thousand jobs needs a thousand.
    The parts of its loader that this calls are private to it: reading the defaults list, merging its
    files, and applying values. `tests/config/test_compose.py` compares the result with Hydra's own.
    """

    def __init__(self, loader: ConfigLoader, *, hydra_overrides: Sequence[str] = ()) -> None:
        self._loader = cast(ConfigLoaderImpl, loader)
        self._parser = OverridesParser.create(config_loader=loader)
        _, self._files = self._loader._parse_overrides_and_create_caching_repo("train", list(hydra_overrides))
        self._copies = cast(IConfigRepository, _Copies(self._files))
        self._parsed: dict[str, Override] = {}
        self._bases: dict[tuple[str, ...], _Base] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of `softcue-train OVERRIDES`.

        Raises:
            ConfigError: as `expect_all_read`.
        """
        config = self.compose_unchecked(overrides)
        expect_all_read(config, self.own_settings(overrides))
        return config

    def compose_unchecked(self, overrides: Sequence[str]) -> DictConfig:
        """The result of `hydra.compose` for these overrides; ConfigError for an impossible override."""
        groups, values = self._split(overrides)
        config = cast(DictConfig, pickle.loads(self._base(groups).config))
        try:
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        except ConfigCompositionException as error:
            raise ConfigError(explain(error, self.paths(overrides))) from error
        return config

    def paths(self, overrides: Sequence[str]) -> list[str]:
        """The paths of all settings of the chosen groups' files."""
        return [path for path, _ in leaves(self.own_settings(overrides))]

    def own_settings(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        """What the chosen groups' files hold, without tuned settings, experiments or single values."""
        return self._base(self._split(overrides)[0]).own

    def _split(self, overrides: Sequence[str]) -> tuple[list[Override], list[Override]]:
        """Choices of groups, and values; values of Hydra itself are left out."""
        groups, values = [], []
        for text in without_null_groups(overrides):
            if text not in self._parsed:
                self._parsed[text] = self._parse(text)
            override = self._parsed[text]
            is_mapping = isinstance(override.value(), dict)
            if self._files.group_exists(override.key_or_group) and not is_mapping:
                groups.append(override)
            elif not override.is_hydra_override():
                values.append(override)
        return groups, values

    def _parse(self, text: str) -> Override:
        try:
            (parsed,) = self._parser.parse_overrides([text])
        except OverrideParseException as error:
            raise ConfigError(explain(error, ())) from error
        return parsed

    def _base(self, groups: Sequence[Override]) -> _Base:
        key = tuple(str(override.input_line) for override in groups)
        if key not in self._bases:
            try:
                files = create_defaults_list(
                    repo=self._files,
                    config_name="train",
                    overrides_list=list(groups),
                    prepend_hydra=True,  # for the choices of Hydra's own groups in train.yaml
                    skip_missing=False,
                ).defaults
            except ConfigCompositionException as error:
                raise ConfigError(explain(error, ())) from error
            files = [file for file in files if not str(file.package).startswith("hydra")]
            self._bases[key] = _Base(files=files, merge=self._merged)
        return self._bases[key]

    def _merged(self, files: Sequence[ResultDefault]) -> DictConfig:
        config = self._loader._compose_config_from_defaults_list(defaults=list(files), repo=self._copies)
        config.pop("hydra", None)
        OmegaConf.set_struct(config, True)
        return config


def known_settings(arguments: Sequence[str]) -> list[str]:
    """The settings, by path, of a command line that may be wrong; of a sweep's options, the first counts."""
    composer = Composer(config_loader(*own_folders(arguments)))
    choices = [
        f"{group}={options.partition(',')[0]}"
        for group, equals, options in (argument.partition("=") for argument in arguments)
        if equals and group and (CONFIG_PATH / group).is_dir()
    ]
    try:
        return composer.paths(choices)
    except ConfigError:
        return composer.paths([])


def expect_command_read(settings: DictConfig) -> None:
    """Check the settings of the Hydra app that runs now, and log those that nothing reads.

    Raises:
        ConfigError: as `expect_all_read`.
    """
    # As typed: an override such as data.source.split=${split} is not the mapping that it stands for.
    given = cast(dict[str, Any], OmegaConf.to_container(HydraConfig.get().overrides, resolve=False))
    composer = Composer(GlobalHydra.instance().config_loader(), hydra_overrides=given["hydra"])
    for path in expect_all_read(settings, composer.own_settings(given["task"])):
        log.warning("%s is given, but nothing in this run reads it", path)


def expect_all_read(config: DictConfig, own: Mapping[str, Any]) -> list[str]:
    """Check the given settings; return those that nothing reads, of those that are declared `by_reference`.

    `own` are the settings of the chosen groups' files.

    Raises:
        ConfigError: a given setting has no effect because another one, which would refer to it, is given
            too; names both. Or a setting was added that nothing reads, or is of another kind than its
            default.
    """
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    now, before = dict(leaves(raw)), dict(leaves(own))
    added = now.keys() - before.keys()
    for path in sorted(added - mappings_of(before).keys()) if added else ():
        if not _may_be_added(path, raw) and not _readers(path, now):
            raise ConfigError(f"{path}={now[path]} is given: {no_such_setting(path, before)}")
    expect_kinds(now, before, open_groups=OPEN_GROUPS)
    if raw["joint"]["seed"] and now["seed"] != before["seed"]:
        raise ConfigError(_both("joint.seed", "seed", now))
    by_reference = sorted(paths_as(raw, "by_reference"))
    given = [path for path in by_reference if now[path] != before.get(path)]
    unread = [path for path in given if not _readers(path, now)]
    for path in unread:
        for reader in _readers(path, before):
            raise ConfigError(_both(reader, path, now))
    return unread


def _may_be_added(path: str, settings: Mapping[str, Any]) -> bool:
    """Whether an object made from the mapping around the setting checks it, or an open group holds it."""
    parts = path.split(".")
    if parts[0] in OPEN_GROUPS:
        return True
    node: Any = settings
    for part in parts[:-1]:
        node = node[part]
        if "_target_" in node:
            return True
    return False


def _both(winner: str, loser: str, values: Mapping[str, Any]) -> str:
    return (
        f"{winner}={values.get(winner)} overrides {loser}={values[loser]}, which is set too (on the command "
        f"line, in an experiment or in tuned settings) and would have no effect. Set {loser} alone."
    )


def _readers(path: str, values: Mapping[str, Any]) -> list[str]:
    """The settings that refer to this one, or to a mapping that holds it."""
    parts = path.split(".")
    names = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return [reader for reader, value in values.items() if names & _references(reader, value)]


def _references(path: str, value: Any) -> set[str]:
    """The settings that a value names in `${...}`; relative names start at the node around it."""
    if "${" not in str(value):
        return set()
    above = path.split(".") if isinstance(value, list) else path.split(".")[:-1]
    names = set()
    for dots, name in _NAME.findall(str(value)):
        kept = above[: len(above) + 1 - len(dots)] if dots else []
        names.add(".".join([*kept, name]))
    return names
