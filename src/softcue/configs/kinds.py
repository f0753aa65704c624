"""Settings keep the kind of their defaults: true or false, a number, a text, or settings of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from softcue.configs.ranges import range_of
from softcue.errors import ConfigError


def expect_kinds(
    given: Mapping[str, Any], defaults: Mapping[str, Any], *, open_groups: Collection[str] = ()
) -> None:
    """Check that each setting, by dotted path, has the kind of its default.

    Null, lists and references (`${...}`) are accepted for every default, as are all settings in
    `open_groups`. A setting without a default (`???`) must be a text.

    Raises:
        ConfigError: a setting of another kind than its default.
    """
    holders = mappings_of(defaults)
    for path, value in given.items():
        if value is None or isinstance(value, list) or (isinstance(value, str) and "${" in value):
            continue
        if path in holders:
            raise ConfigError(f"{path} is {value!r}; it holds settings, such as {holders[path]}.")
        if path.partition(".")[0] not in open_groups and path in defaults:
            wanted = _wanted(path, value, defaults[path])
            if wanted is not None:
                raise ConfigError(f"{path} is {value!r}; give {wanted}.")


def mappings_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The mappings that hold settings, by dotted path, each with a setting in it."""
    return {path[:at]: path for path in settings for at, character in enumerate(path) if character == "."}


def _wanted(path: str, value: Any, default: Any) -> str | None:
    """What a value should be; None if it is of its default's kind."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number else str(range_of(path) or "a number")
    if isinstance(default, str) and "${" not in default and not isinstance(value, str):
        return f"a text. If you mean the text {str(value)!r}, quote it twice: \"{path}='{value}'\""
    return None
