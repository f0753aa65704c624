"""The id of a run: a digest over the settings and contents that determine its result.

Every setting counts, except those that an `_identity_` mapping beside them declares otherwise.
Its keys are dotted paths from the mapping that holds it, or fnmatch patterns of them, and stand for
all settings below; its values are roles (`conf/train.yaml` lists them).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from math import prod
from typing import Any, Literal, get_args

from softcue.errors import ConfigError

DECLARATIONS = "_identity_"

Role = Literal["no_effect", "by_reference", "by_content", "processes", "where_given"]


def run_id(settings: Mapping[str, Any], *, contents: Mapping[str, str], data_fingerprint: str) -> str:
    """The method's name and 12 hexadecimal digits over all that determines the result.

    `settings` is the resolved config, and `contents` has the digest of what lies at each of its
    `content_paths`; one without a digest counts as its text. The version of the code is recorded and does
    not count: an upgrade must not repeat every complete run.
    """
    counted = identity(settings)
    for path in paths_as(settings, "by_content"):
        value = counted[path]
        is_list = isinstance(value, list)
        counted[path] = [contents.get(one, one) for one in value] if is_list else contents.get(value, value)
    canonical = json.dumps(
        {"settings": counted, "data": data_fingerprint}, sort_keys=True, separators=(",", ":")
    )
    return f"{settings['prompt']['name']}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine a run's result, by path; `processes` is the number that train it."""
    role_of = _roles(tuple(declarations(settings).items()))
    counted, processes = {}, []
    for path, value in leaves(settings):
        role = role_of(path)
        if role == "processes":
            processes.append(num_processes(value))
        elif role in (None, "by_content") or (role == "where_given" and value is not None):
            counted[path] = value
    return {**counted, "processes": prod(processes)} if processes else counted


def content_paths(settings: Mapping[str, Any]) -> set[str]:
    """The files and folders whose content counts."""
    by_content = paths_as(settings, "by_content")
    values = [value for path, value in leaves(settings) if path in by_content]
    texts = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return {text for text in texts if isinstance(text, str)}


def paths_as(settings: Mapping[str, Any], *roles: Role) -> set[str]:
    """The paths of all settings that are declared as one of the roles."""
    role_of = _roles(tuple(declarations(settings).items()))
    return {path for path, _ in leaves(settings) if role_of(path) in roles}


def gather_declarations(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with all declarations in one mapping at the root, as records keep them."""
    return {**without_declarations(settings), DECLARATIONS: declarations(settings)}


def without_declarations(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The nested settings alone."""
    return {
        key: without_declarations(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if key != DECLARATIONS
    }


def declarations(settings: Mapping[str, Any], *, above: str = "") -> dict[str, Role]:
    """The roles that are declared, by path or pattern from the root; `above` is the path of `settings`.

    Raises:
        ConfigError: an unknown role.
    """
    roles: dict[str, Role] = {}
    for key, value in settings.items():
        if key == DECLARATIONS:
            roles |= {f"{above}{path}": role for path, role in value.items()}
        elif isinstance(value, dict):
            roles |= declarations(value, above=f"{above}{key}.")
    for path, role in roles.items():
        if role not in get_args(Role):
            raise ConfigError(f"{DECLARATIONS} declares {path} as {role}; choose one of {get_args(Role)}.")
    return roles


def leaves(settings: Mapping[str, Any], *, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that is no mapping, by its path; declarations are left out."""
    for key, value in settings.items():
        if isinstance(value, dict):
            if key != DECLARATIONS:
                yield from leaves(value, above=f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def num_processes(value: Any) -> int:
    """The number that a Trainer's `devices` or `num_nodes` stands for: 2, "2", [0, 1] and "0,1" are two."""
    if isinstance(value, str):
        value = [one for one in value.split(",") if one.strip()] if "," in value else int(value)
    return len(value) if isinstance(value, list) else int(value)


@cache
def _roles(declared: tuple[tuple[str, Role], ...]) -> Callable[[str], Role | None]:
    """The role of a path; made once for the many records that declare the same."""

    @cache
    def role_of(path: str) -> Role | None:
        # A mapping that has a role covers all below it, so the outermost comes first.
        holders = (path[: dot.start()] for dot in re.finditer(r"\.|$", path))
        matches = (role for one in holders for pattern, role in declared if fnmatchcase(one, pattern))
        return next(matches, None)

    return role_of
