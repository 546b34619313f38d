"""The options of a URL and of ``open_model``: declared, typed, checked in one place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infer_backends._deadline import LONGEST_TIMEOUT, Deadline
from infer_backends._errors import InvalidURL
from infer_backends._headers import request_headers
from infer_backends._url import ModelURL

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option that a plugin takes, in a URL as ``?name=value`` or in the call as a keyword.

    Attributes:
        name: Its name: lower case, digits and ``_``.
        type: ``str``, ``int``, ``float`` or ``bool``; the type of the value that the plugin gets.
        default: The value when the option is not given; need not be of ``type``.
        help: One line for the table of options, with the unit (seconds, bytes) if there is one.
        choices: The values allowed, or None for any.
        minimum: The smallest number allowed, or None for any.
        secret: Whether the value must never be shown.
        repeatable: Whether it may stand in a URL several times. Its value is then a tuple, in the
            order of the URL, and it is no keyword of the call.
    """

    name: str
    type: type[str] | type[int] | type[float] | type[bool] = str
    default: Any = None
    help: str = ""
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    secret: bool = False
    repeatable: bool = False

    def parse(self, text: str) -> Any:
        """The value that ``text`` from a URL stands for."""
        if self.type is bool:
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
            raise self._wrong("true or false")
        value = self._read(text)
        if value is None:
            raise self._wrong("a whole number" if self.type is int else "a number")
        return self.check(value)

    def _read(self, text: str) -> Any:
        # The exception shows the text, which may be a secret: it must not become a context either.
        try:
            return self.type(text)
        except ValueError:
            return None

    def check(self, value: Any) -> Any:
        """``value`` as given in a call, or parsed: of the right type and in range."""
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                raise self._wrong("a number that a float can hold") from None
        if type(value) is not self.type and not (
            isinstance(value, self.type) and self.type is not int
        ):
            raise self._wrong(self.type.__name__)
        if self.choices is not None and value not in self.choices:
            raise self._wrong(" or ".join(self.choices))
        if isinstance(value, float) and math.isnan(value):
            raise self._wrong("a number")
        if self.minimum is not None and isinstance(value, (int, float)) and value < self.minimum:
            raise self._wrong(f"{self.minimum:g} or more")
        return value

    def _wrong(self, expected: str) -> InvalidURL:
        return InvalidURL(f"the option {self.name!r} has a wrong value: expected {expected}")


class OpenOptions(Mapping[str, Any]):
    """What a plugin's open hook is given beside the URL.

    As a mapping: the plugin's own options, by name. As attributes: what every plugin gets.

    Attributes:
        core: The values of the core's own options, by name, for who calls the backend.
        deadline: By when the model has to be open.
        connect_timeout: The bound on connecting, in seconds.
        headers: Headers for every request, names in lower case, ``authorization`` among them
            when the URL has credentials. Secret: never show the values.
    """

    __slots__ = ("_values", "connect_timeout", "core", "deadline", "headers")

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        deadline: Deadline | None = None,
        connect_timeout: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._values = dict(values or {})
        self.deadline = deadline if deadline is not None else Deadline.after(60.0, explicit=False)
        self.connect_timeout = connect_timeout
        self.headers = dict(headers or {})
        self.core: Mapping[str, Any] = {}

    @classmethod
    def read(
        cls,
        url: ModelURL,
        declared: Sequence[Option],
        given: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> OpenOptions:
        """The options for opening ``url``: from it, from the call, or their defaults.

        This is what the core does before it calls a plugin's open hook.

        Args:
            url: Whose options and credentials to take.
            declared: The options that the plugin declares for its scheme.
            given: Keywords of the call; a value of None counts as not given.
            headers: Headers given in the call.
            deadline: By when the model has to be open; None for a minute from now.

        Raises:
            InvalidURL: An option or the credentials are unknown, wrong, or given twice.
            InvalidInput: A header cannot be sent.
        """
        values = resolve(url, given or {}, (*CORE_OPTIONS, *declared))
        core = {option.name: values.pop(option.name) for option in CORE_OPTIONS}
        options = cls(
            values,
            deadline=deadline,
            connect_timeout=min(core["connect_timeout"], LONGEST_TIMEOUT),
            headers=request_headers(url, core["auth"], headers),
        )
        options.core = core
        return options

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<OpenOptions {', '.join(sorted(self._values))}>"


#: Options of the core, understood in every URL.
CORE_OPTIONS = (
    Option("timeout", float, None, "total time of one call, in seconds (60)", minimum=0.001),
    Option("connect_timeout", float, 2.0, "time for connecting, in seconds", minimum=0.001),
    Option("coerce", str, "lossless", "conversion of inputs", ("never", "lossless", "unsafe")),
    Option("parity", str, "strict", "members that differ: error or warning", ("strict", "warn")),
    Option("preload", bool, False, "load at open what would be loaded when it is needed"),
    Option("idempotent", bool, False, "a call may be sent again that may have been worked on"),
    Option("fallback_on_failure", bool, False, "a failure of the model asks the next URL, too"),
    Option("probe_period", float, 1.0, "time between probes at first, in seconds", minimum=0.05),
    Option("auth", str, None, "env:NAME: the variable that holds a bearer token", secret=True),
    Option("host", str, (), "one more replica, as b:8001; in the URL only", repeatable=True),
)
#: Core options that say how the Model behaves, so that all the URLs of one Model must agree.
MODEL_OPTIONS = frozenset(
    {"timeout", "coerce", "parity", "idempotent", "fallback_on_failure", "probe_period"}
)


def resolve(url: ModelURL, given: Mapping[str, Any], declared: Sequence[Option]) -> dict[str, Any]:
    """The value of every declared option: from the URL, from the call, or its default.

    Args:
        url: Whose options to take.
        given: Keywords of the call; a value of None counts as not given.
        declared: All the options that are known for this URL.

    Raises:
        InvalidURL: An option that is unknown, repeated, wrong, or given twice with two values.
    """
    known = {option.name: option for option in declared}
    written = _parse_pairs(url, known)
    called = {name: value for name, value in given.items() if value is not None}
    _require_known(called, known)
    values = {option.name: option.default for option in declared}
    values.update(written)
    for name, value in called.items():
        if known[name].repeatable:
            raise InvalidURL(f"the option {name!r} is for the URL: write ?{name}=... in it")
        checked = known[name].check(value)
        if name in written and written[name] != checked:
            raise InvalidURL(
                f"the option {name!r} is given in the URL and in the call, with two values: "
                "remove one of them"
            )
        values[name] = checked
    return values


def _parse_pairs(url: ModelURL, known: Mapping[str, Option]) -> dict[str, Any]:
    _require_known((name for name, _ in url.options), known)
    written: dict[str, Any] = {}
    for name, text in url.options:
        value = known[name].parse(text)
        if known[name].repeatable:
            written[name] = (*written.get(name, ()), value)
        elif name in written:
            raise InvalidURL(f"the option {name!r} stands twice in {url.location!r}")
        else:
            written[name] = value
    return written


def _require_known(names: Iterable[str], known: Mapping[str, Option]) -> None:
    for name in names:
        if name not in known:
            raise InvalidURL(
                f"unknown option {name!r}; the options known here are {', '.join(sorted(known))}"
            )


def table(options: Iterable[Option]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and help of each option, for tables in docs and the terminal."""
    return [
        (
            option.name,
            "|".join(option.choices) if option.choices else option.type.__name__,
            "" if option.default in {None, ()} else str(option.default),
            option.help,
        )
        for option in options
    ]
