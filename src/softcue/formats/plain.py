"""Values of a received file, read as plain data: nothing in it is imported, interpolated or run.

A record names the parts of a prompt as a config does, by `_target_` and settings. Here such a name is
only compared with a table of our own parts, and each setting must have the part's own type.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from softcue.errors import RunError

T = TypeVar("T")

KIND = "_target_"
"""The key that names a part."""

MAX_FILE_BYTES = 16_000_000
MAX_ENTRIES = 10_000
MAX_CHARACTERS = 100_000
"""Limits of a JSON file, and of each list, mapping and text in it."""


def read_small(path: Path) -> bytes:
    """The content of a file of JSON.

    Raises:
        RunError: no such file, or one too large.
    """
    try:
        if not path.is_file():
            raise RunError(f"{path} is not a file; copy the folder again.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RunError(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); copy the folder again.") from error


@dataclass(frozen=True, kw_only=True)
class Node:
    """A mapping in a received file; `at` says where it is, for errors."""

    values: Mapping[str, Any]
    at: str

    def child(self, key: str) -> Node:
        """The mapping under a key; RunError if there is none."""
        return Node(values=self.value(key, dict[str, Any]), at=f"{self.at}.{key}")

    def value(self, key: str, kind: type[T]) -> T:
        """The value under a key, which must be of type `kind` already; RunError otherwise."""
        if key not in self.values:
            raise RunError(f"{self.at} has no {key!r}; copy the folder again.")
        return cast(T, _checked(self.values[key], kind, at=f"{self.at}.{key}"))

    def optional(self, key: str, kind: type[T]) -> T | None:
        """As `value`, or None where the file says null."""
        return None if key in self.values and self.values[key] is None else self.value(key, kind)

    @property
    def kind(self) -> str:
        """The name of the part that the mapping describes."""
        return self.value(KIND, str)

    def part(
        self, known: Mapping[str, Callable[..., T]], *, given: Collection[str] = (), way_out: str = ""
    ) -> partial[T]:
        """The part of `known` that the mapping names, with its settings; it is not called.

        `given` are parameters that the caller passes, whatever the mapping holds there.

        Raises:
            RunError: an unknown part or setting, a missing one, or one of another type.
        """
        if self.kind not in known:
            raise RunError(
                f"{self.at} is of kind {self.kind!r:.120}, which is none of softcue's own "
                f"({', '.join(sorted(known))}); nothing of it was run. {way_out}".rstrip()
            )
        make = known[self.kind]
        if self.values.get("_partial_", True) is not True:
            raise RunError(f"{self.at}._partial_ is not true; copy the folder again.")
        settings = {
            key: value for key, value in self.values.items() if key not in (KIND, "_partial_", *given)
        }
        types = _parameter_types(make, without=given)
        for key in [*settings, *(name for name, (_, required) in types.items() if required)]:
            if key not in types or key not in settings:
                problem = "which is unknown here" if key not in types else "which is missing"
                raise RunError(f"{self.at} needs exactly {sorted(types)}, not {key!r:.120}, {problem}.")
        checked = {
            key: _checked(value, types[key][0], at=f"{self.at}.{key}") for key, value in settings.items()
        }
        return partial(make, **checked)


def _parameter_types(make: Callable[..., Any], *, without: Collection[str]) -> dict[str, tuple[Any, bool]]:
    """Each parameter's type, and whether it must be given."""
    function = inspect.getattr_static(make, "__init__") if isinstance(make, type) else make
    hints = get_type_hints(function, include_extras=True)
    return {
        name: (hints[name], parameter.default is parameter.empty)
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in without
    }


def _checked(value: Any, kind: Any, *, at: str) -> Any:
    for size, limit, what in _sizes(value):
        if size > limit:
            raise RunError(f"{at} has {size:,} {what}; at most {limit:,} are read.")
    try:
        # As JSON, in which a list may become a tuple and no other type becomes another.
        return _adapter(kind).validate_json(json.dumps(value), strict=True)
    except (ValidationError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "too deeply nested"
        raise RunError(f"{at} is {value!r:.120}: {reason}.") from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _sizes(value: Any) -> Iterator[tuple[int, int, str]]:
    if isinstance(value, str):
        yield len(value), MAX_CHARACTERS, "characters"
    elif isinstance(value, dict | list):
        yield len(value), MAX_ENTRIES, "entries"
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _sizes(inner)
