"""Values that run code or read a secret wherever a config is instantiated or interpolated."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SECRET = "SOFTCUE_TEST_SECRET"
Place = tuple[str | int, ...]


def payloads(marks: Path) -> dict[str, Any]:
    """Payloads by name; what each one runs leaves a file or folder under `marks`."""
    mark = {"_target_": "os.mkdir", "path": str(marks / "mkdir")}
    written = {"path": {"_target_": "pathlib.Path", "_args_": [str(marks / "own")]}, "content": "x"}
    code = f"__import__('os').mkdir({str(marks / 'code')!r})"
    return {
        "call": mark,
        "call with arguments": {"_target_": "os.mkdir", "_args_": [str(marks / "args")]},
        "evaluated text": {"_target_": "sympy.sympify", "_args_": [code]},
        "builtin": {"_target_": "builtins.exec", "_args_": [code]},
        "shell": {"_target_": "os.system", "command": f"touch {marks / 'shell'}"},
        "partial": {**mark, "_partial_": True},
        "nested partial": {"_target_": "functools.partial", "_args_": [mark], "_partial_": True},
        "nested call": {"inner": {"deep": [mark]}, "_recursive_": True},
        "our name, foreign arguments": {"_target_": "softcue.data.task.Task", "name": mark, "template": mark},
        "our module": {"_target_": "softcue.runs.atomic.write_atomic", **written},
        "import": {"_target_": "softcue_canary.Thing"},
        "call in a list": [mark],
        "environment": f"${{oc.env:{SECRET}}}",
        "environment inside text": f"w3 ${{oc.env:{SECRET}}} w4",
        "created": f"${{oc.create:{{_target_:os.mkdir,path:{marks / 'created'}}}}}",
        "resolver": "${softcue_canary:}",
        "reference": "${paths.cache}",
        "YAML tag": f"!!python/object/apply:os.mkdir ['{marks / 'yaml'}']",
        "format": "{0.__class__.__mro__} %s {text.__class__}",
        "terminal": "\x1b]0;title\x07\x1b[31m",
        "deep": deep(60),
        "huge number": 10**40,
        "nothing": None,
    }


def additions(marks: Path) -> dict[str, dict[str, Any]]:
    """Keys that are added to a mapping."""
    made = payloads(marks)
    return {
        "target": made["call"],
        "arguments": {"_args_": [made["call"]]},
        "any key": {"more": made["evaluated text"], "env": made["environment"]},
        "code": {"trust_remote_code": True, "auto_map": {"AutoModel": "softcue_canary.Thing"}},
    }


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = {"_target_": "softcue_canary.Thing"}
    for _ in range(levels):
        value = [value]
    return value


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Every place under a value, itself included."""
    yield above
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*above, key))


def found(value: Any, place: Place) -> Any:
    """What is at a place."""
    for key in place:
        value = value[key]
    return value


def replaced(value: Any, place: Place, payload: Any) -> Any:
    """A copy with another value at a place."""
    if not place:
        return payload
    changed = copy.copy(value)
    changed[place[0]] = replaced(value[place[0]], place[1:], payload)
    return changed


def extended(value: Any, place: Place, keys: Mapping[str, Any]) -> Any:
    """A copy with more keys in the mapping at a place."""
    return replaced(value, place, {**found(value, place), **keys})


def attempts(
    record: Any, values: Sequence[Any], keys: Sequence[Mapping[str, Any]], *, every: int, offset: int
) -> Iterator[Any]:
    """The record with a payload at each place, and with keys added to each mapping.

    One in `every` of the payloads is tried at a place, from `offset` on, each time another.
    """
    for number, place in enumerate(places(record), start=offset):
        for payload in values[number % every :: every]:
            yield replaced(record, place, payload)
        if isinstance(found(record, place), dict) and keys:
            for more in keys[number % min(every, len(keys)) :: every]:
                yield extended(record, place, more)
