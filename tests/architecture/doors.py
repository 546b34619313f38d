"""What the doors promise, as it is now and as it was recorded, and what of a change breaks it.

``python -m tests.architecture.doors`` records the doors as they are: part of every release. What
was added since the last one is no promise yet, and may still change.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("doors.json")
PACKAGE = "infer_backends"
#: Of the first and the third door the names are recorded, of the second one all that plugins use.
NAMES_ONLY = (PACKAGE, "infer_backends.testing")
DOOR_2 = "infer_backends.plugin"
HOOKS = ("infer_backends._hookspecs", "infer_backends._observer_hookspecs")

#: What is overridden in the suite, beside the attributes that it declares.
OVERRIDDEN = ("inputs", "outage", "reference_url", "values")

Described = dict[str, Any]


def doors() -> Described:
    """The doors as they are now."""
    from infer_backends import __version__
    from infer_backends.plugin import API_VERSION

    return {
        "version": __version__,
        "API_VERSION": API_VERSION,
        "names": {
            **{name: list(importlib.import_module(name).__all__) for name in NAMES_ONLY},
            "infer_backends.testing.BackendContract": declarations(),
        },
        "plugin": described(vars(importlib.import_module(DOOR_2))),
        "hooks": hooks(),
    }


def declarations() -> list[str]:
    """What the author of a plugin may say to the suite, as attributes, fixtures and methods."""
    from infer_backends.testing import BackendContract

    declared = {name for base in BackendContract.__mro__ for name in inspect.get_annotations(base)}
    return sorted(name for name in {*declared, *OVERRIDDEN} if hasattr(BackendContract, name))


def described(namespace: Mapping[str, Any]) -> Described:
    """Each name that a module exports, as far as its users depend on it."""
    return {name: describe(namespace[name]) for name in namespace["__all__"]}


def hooks() -> Described:
    """The hooks that plugins may implement."""
    found: Described = {}
    for module in map(importlib.import_module, HOOKS):
        for name, value in vars(module).items():
            if name.startswith("infer_backends_") and inspect.isfunction(value):
                found[name] = {"kind": "hook", **call(value)}
    return found


def describe(value: Any) -> Described:
    """One name: what kind of thing it is, how it is called, and what can be asked of it."""
    if inspect.isfunction(value):
        return {"kind": "function", **call(value)}
    if not inspect.isclass(value):
        return {"kind": "value"}
    if issubclass(value, enum.Enum):
        return {"kind": "enum", "members": {member.name: member.value for member in value}}
    if getattr(value, "_is_protocol", False):
        return {"kind": "protocol", "members": members(value)}
    kind = "error" if issubclass(value, Exception) else "class"
    bases = [base.__name__ for base in value.__mro__[1:] if base is not object]
    return {
        "kind": kind,
        "bases": bases if kind == "error" else [],
        "arguments": signature(value),
        "members": members(value),
    }


def members(cls: type) -> Described:
    """The public attributes and methods that a class has from this library."""
    found: Described = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith((PACKAGE, "tests.")):
            continue
        types = inspect.get_annotations(base)
        for name in {**types, **vars(base)}:
            if not name.startswith("_"):
                found[name] = _member(vars(base).get(name), types.get(name))
    return found


def _member(value: Any, annotation: object) -> Described:
    if isinstance(value, property):
        annotation = inspect.signature(value.fget).return_annotation if value.fget else None
    function = getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return {"kind": "attribute", "type": str(annotation)}
    kind = "async method" if inspect.iscoroutinefunction(function) else "method"
    return {"kind": kind, **call(function)}


def call(function: Any) -> Described:
    """How a function is called, and what it returns."""
    returned = inspect.signature(function).return_annotation
    return {"arguments": signature(function), "returns": str(returned)}


def signature(called: Any) -> list[list[str]]:
    """The arguments of a function or a class: name, kind, type, and default, if there is one."""
    return [
        [
            parameter.name,
            parameter.kind.description,
            str(parameter.annotation),
            *([] if parameter.default is parameter.empty else [repr(parameter.default)]),
        ]
        for parameter in inspect.signature(called).parameters.values()
        if parameter.name not in {"self", "cls"}
    ]


# --- what breaks ----------------------------------------------------------------------------------


def breaks(before: Described, after: Described) -> list[str]:
    """What of the doors before would no longer hold, one line for each."""
    found = [
        f"{door}.{name} has gone"
        for door, names in before["names"].items()
        for name in sorted(set(names) - set(after["names"][door]))
    ]
    found += broken(before["plugin"], after["plugin"])
    return found + broken(before["hooks"], after["hooks"])


def broken(before: Described, after: Described, of: str = "") -> list[str]:
    """The same for the names of one module, or of one class."""
    found = []
    for name, old in before.items():
        new = after.get(name)
        where = f"{of}{name}"
        if new is None:
            found.append(f"{where} has gone")
        elif old["kind"] != new["kind"]:
            found.append(f"{where} was a kind of {old['kind']}, and is one of {new['kind']}")
        else:
            found += _broken_name(where, old, new)
    return found


def _broken_name(name: str, old: Described, new: Described) -> Iterator[str]:
    match old["kind"]:
        case "enum":
            yield from _broken_enum(name, old["members"], new["members"])
        case "protocol":
            yield from _broken_protocol(name, old["members"], new["members"])
        case "hook":
            yield from _broken_hook(name, old, new)
        case _:
            for base in sorted(set(old.get("bases", ())) - set(new.get("bases", ()))):
                yield f"{name} is no {base} any more"
            for what in ("type", "returns"):
                if old.get(what) != new.get(what):
                    yield f"{name} is of another type: {new.get(what)}, not {old.get(what)}"
            yield from _broken_call(name, old.get("arguments", []), new.get("arguments", []))
            yield from broken(old.get("members", {}), new.get("members", {}), f"{name}.")


def _broken_enum(name: str, old: Described, new: Described) -> Iterator[str]:
    for member, value in old.items():
        if new.get(member) != value:
            yield f"{name}.{member} has gone, or has another value"


def _broken_hook(name: str, old: Described, new: Described) -> Iterator[str]:
    """Implementations may leave arguments out, so one more breaks none of them."""
    if old["returns"] != new["returns"]:
        yield f"the hook {name} has to return something else"
    for argument in old["arguments"]:
        if argument not in new["arguments"]:
            yield f"the argument {argument[0]!r} of the hook {name} has gone, or changed"


def _broken_protocol(name: str, old: Described, new: Described) -> Iterator[str]:
    """Plugins implement a protocol, so another form of it leaves behind those out there."""
    for member in sorted({*old, *new}):
        if member not in old:
            yield f"{name}.{member} is new: backends that are out there do not have it"
        elif old[member] != new.get(member):
            yield f"{name}.{member} has gone, or is called in another way"


def _broken_call(name: str, old: list[list[str]], new: list[list[str]]) -> Iterator[str]:
    """Plugins call these, so what they may pass has to be taken still."""
    places = {argument[0]: place for place, argument in enumerate(new)}
    for argument in old:
        if argument[0] not in places:
            yield f"the argument {argument[0]!r} of {name} has gone"
        elif argument != new[places[argument[0]]]:
            yield f"the argument {argument[0]!r} of {name} has another type, default or kind"
    known = [places[argument[0]] for argument in old if argument[0] in places]
    if any(first > second for first, second in pairwise(known)):
        yield f"the arguments of {name} stand in another order"
    names = {argument[0] for argument in old}
    for place, argument in enumerate(new):
        if argument[0] in names or argument[1].startswith("variadic"):
            continue
        if len(argument) == 3:
            yield f"the argument {argument[0]!r} of {name} is new and has no default"
        elif argument[1] != "keyword-only" and any(place < later for later in known):
            yield f"the argument {argument[0]!r} of {name} is new and not the last"


def recorded() -> Described:
    """The doors as they were recorded."""
    found: Described = json.loads(RECORDED.read_text())
    return found


def main() -> None:
    """Record the doors, and say what of it breaks what was recorded."""
    now = doors()
    lost = breaks(recorded(), now) if RECORDED.exists() else []
    RECORDED.write_text(_lines(now))
    sys.stdout.writelines(f"breaks: {line}\n" for line in lost)
    sys.stdout.write(f"recorded the doors of version {now['version']}\n")


def _lines(doors: Described) -> str:
    """JSON with a line for each name, so that a change of one is a change of one line."""
    sections = []
    for section, value in doors.items():
        text = json.dumps(value)
        if isinstance(value, dict):
            rows = (f"  {json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value))
            text = "{\n" + ",\n".join(rows) + "\n }"
        sections.append(f" {json.dumps(section)}: {text}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    main()
