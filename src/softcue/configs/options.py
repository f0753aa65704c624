"""Options of groups on the command line: names that no YAML has, and null."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError

OPTIONAL_GROUPS = ("callbacks", "logger", "scheduler", "tuned")
"""Groups of which a run has an option by default and needs none."""
CHOSEN_GROUPS = ("debug", "experiment", "sweep")
"""Groups of which a run has an option only where one is given."""

_CHOICE = re.compile(r"\+{0,2}(?P<group>[\w/]+)(@[\w.]+)?=(?P<options>[\w./,-]+)")
_SEVERAL = re.compile(r"(?P<group>[\w/]+)=\[(?P<options>[^\[\]]*)\]")
_ELSEWHERE = ("-sc", "--shell-completion", "hydra.searchpath")
"""Arguments with which words are incomplete, or options may stand in folders that only Hydra knows."""


def expect_options(arguments: Sequence[str]) -> None:
    """Check the choices of groups, such as `prompt=p_tuning` or, for a sweep, `prompt=p_tuning,residual`.

    Hydra's own message has ten lines, and leaves out options in folders, such as `baseline/tfidf`.

    Raises:
        ConfigError: a group has no such option; names those that are near, or all.
    """
    if any(argument.startswith(_ELSEWHERE) for argument in arguments):
        return
    folders = [CONFIG_PATH, *own_folders(arguments)]
    for argument in arguments:
        if (several := _SEVERAL.fullmatch(argument)) and _has_one(several["group"]):
            way_out = f"-m {several['group']}={several['options']}"
            raise ConfigError(f"{argument}: a run has one; to compare several, {way_out}.")
        choice = _CHOICE.fullmatch(argument)
        if choice is None or choice["group"].startswith("hydra"):
            continue
        options = _options([folder / choice["group"] for folder in folders])
        for name in choice["options"].split(","):
            if options and name not in (*options, "null"):
                raise ConfigError(no_such_option(choice["group"], name, options))


def without_null_groups(overrides: Sequence[str]) -> list[str]:
    """Overrides in which `logger=null` is `~logger`, as Hydra wants it, and `sweep=null` is left out.

    Raises:
        ConfigError: no option, as `prompt=null` or `~prompt`, for a group of which every run needs one.
    """
    result = []
    for text in overrides:
        group, equals, option = text.removeprefix("~").partition("=")
        if not group:
            raise ConfigError(f"{text}: write name=value, as in seed=1.")
        is_left_out = text.startswith("~") or (equals and option in ("null", ""))
        if is_left_out and group in OPTIONAL_GROUPS:
            result.append(f"~{group}")
        elif not is_left_out or not (group in CHOSEN_GROUPS or _has_one(group)):
            result.append(text)
        elif _has_one(group):
            shown = ", ".join(name for name in _options([CONFIG_PATH / group]) if "/" not in name)
            raise ConfigError(f"{text}: a run needs one of {shown}.")
    return result


def _has_one(group: str) -> bool:
    """Whether every run has one option of this group of softcue's."""
    is_ours = not group.startswith("hydra") and (CONFIG_PATH / group).is_dir()
    return is_ours and group not in (*OPTIONAL_GROUPS, *CHOSEN_GROUPS)


def own_folders(arguments: Sequence[str]) -> Iterator[Path]:
    """The folders of options of one's own: `--config-dir FOLDER` and its other spellings."""
    for at, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            yield Path(value or (arguments[at + 1] if at + 1 < len(arguments) else "."))


def _options(groups: Sequence[Path]) -> list[str]:
    """The options of a group, those in its folders behind its own."""
    paths = [path.relative_to(group).with_suffix("") for group in groups for path in group.rglob("*.yaml")]
    return sorted({path.as_posix() for path in paths}, key=lambda name: (name.count("/"), name))


def no_such_option(group: str, name: str, options: Sequence[str] | None = None) -> str:
    """Return a message that an option is unknown, with similar options or all.

    `options` are by default those of softcue's own group.
    """
    options = _options([CONFIG_PATH / group]) if options is None else options
    shown = [option for option in options if not option.rpartition("/")[2].startswith("_")]
    by_last = {option.rpartition("/")[2]: option for option in reversed(shown)}
    last = name.rpartition("/")[2]
    names = get_close_matches(last, by_last) or [other for other in sorted(by_last) if last in other][:3]
    what = f"{group}={name}: there is no such option"
    if names:
        return f"{what}; did you mean {' or '.join(f'{group}={by_last[other]}' for other in names)}?"
    return f"{what}; choose one of {', '.join(option for option in shown if '/' not in option)}."
