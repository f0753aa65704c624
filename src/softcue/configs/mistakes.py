"""Mistakes on a command line, as Hydra and OmegaConf report them, in one line that names the way out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches

from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from softcue.configs import CONFIG_PATH
from softcue.configs.options import no_such_option

_UNKNOWN = re.compile(r"Could not override '(?P<path>[^']+)'\.\nTo append")
_AMBIGUOUS = re.compile(r"Ambiguous value for argument '(?P<given>(?P<key>[^=]+)=(?P<values>.*))'\n")
_TWICE = re.compile(r"Multiple values for (?P<group>\S+)\. .* use 'override \S+: (?P<option>\S+)'")
_MISSING = re.compile(r"Missing mandatory value: (?P<path>\S+)")
_NO_OPTION = re.compile(r"In '[^']*': Could not find '(?P<group>[\w/]+)/(?P<option>[^/']+)'")
_NO_GROUP = re.compile(r"Could not override '(?P<group>[^']+)'\. No match in the defaults list")
_NOT_SET = re.compile(r"Interpolation key '(?P<key>[^']+)' not found\s+full_key: (?P<path>\S+)")
_NOISE = re.compile(r"See https://hydra|\s*object_type=|Error parsing override")


def explain(error: Exception, known: Collection[str]) -> str:
    """Return the error as one line; for an unknown setting it names similar ones of `known`, dotted paths."""
    text = str(error)
    if isinstance(error.__cause__, OmegaConfBaseException) and str(error.__cause__) not in text:
        text += f"\n{error.__cause__}"
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, text)
    if found := _UNKNOWN.match(text):
        return f"{found['path']}: {no_such_setting(found['path'], known)}"
    if (found := _NO_OPTION.match(text)) and (CONFIG_PATH / found["group"]).is_dir():
        return no_such_option(found["group"], found["option"])
    if found := _NO_GROUP.match(text):
        return f"{found['group']}: none of the chosen options has such a part; leave {found['group']} out."
    if found := _NOT_SET.match(text):
        path, key = found["path"], found["key"]
        return f"{path} is taken from {key}, which is not set; set one of them, or choose another option."
    if found := _MISSING.search(text):
        return f"{found['path']} has no default; give it as {found['path']}=..."
    if found := _AMBIGUOUS.match(text):
        key, values = found["key"], found["values"]
        return f"{found['given']}: to train one run for each value, add -m; to give a list, {key}=[{values}]."
    if found := _TWICE.match(text):
        group = found["group"]
        return f"{group} is chosen twice; give it once, as {group}={found['option']} without a +."
    return " ".join(_lines(text))


def no_such_setting(path: str, known: Collection[str]) -> str:
    """Return a message that a setting is unknown, with similar settings or those of the same group."""
    shown = [name for name in known if not any(part.startswith("_") for part in name.split("."))]
    if near := _near(path, shown):
        return f"there is no such setting; did you mean {' or '.join(near)}?"
    parent = path.rpartition(".")[0]
    below = [name.removeprefix(f"{parent}.") for name in shown if name.startswith(f"{parent}.")]
    if parent and below:
        beside = sorted({name.partition(".")[0] for name in below})
        return f"there is no such setting; {parent} has {', '.join(beside)}."
    return "there is no such setting; --help lists those that there are."


def _near(path: str, known: Collection[str]) -> list[str]:
    last = path.rpartition(".")[2]
    ends = {name: name.rpartition(".")[2] for name in known}
    candidates = (
        [name for name, end in ends.items() if end == last],
        get_close_matches(path, known, n=2, cutoff=0.8),
        [name for name, end in ends.items() if last in end.split("_")],
    )
    return next((found[:3] for found in candidates if found), [])


def _unreadable(override: str, text: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not key:
        return f"{override}: write name=value, as in seed=1."
    if re.search(r"[\[\]{}()'\",:\\ ]", value):
        quoted = value.replace("'", "\\'")
        return (
            f"{override}: this value cannot be read as it is. Put it in single quotes, and all of it in "
            f"double quotes for the shell: \"{key}='{quoted}'\"."
        )
    return f"{override}: {' '.join(_lines(text)).partition(' expecting {')[0]}"


def _lines(text: str) -> Iterator[str]:
    """What a user needs of a message of several lines."""
    said = ""
    for line in text.partition("Config search path:")[0].splitlines():
        words = " ".join(line.split())
        key = words.removeprefix("full_key: ")
        if words and not _NOISE.match(line) and key not in said.split():
            yield f"({key})" if key != words else words
            said += f" {key}"
