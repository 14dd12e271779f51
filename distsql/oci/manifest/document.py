"""Strict, bounded JSON: a dictionary that PostgreSQL can hold, and that no two readers of the payload see differently.

RFC 8259 leaves open what a reader does with duplicate names, huge numbers, lone surrogates and depth; programs differ,
and that is how one manifest becomes two. Here each of them is refused with `ManifestInvalidError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Final, NoReturn

from distsql.errors import ManifestInvalidError

Document = dict[str, object]
Place = tuple[str | int, ...]

MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 20  # 2**64 - 1 has 20
MAX_EXPONENT: Final = 308  # the largest of a double
# Opening brackets and commas: each value costs one of them, and up to some 200 bytes of memory. The densest index has
# one in 27 bytes, so one in 16 (and what small manifests like) bounds memory to some 14 times the payload.
FREE_STRUCTURE: Final = 10_000
BYTES_PER_STRUCTURE: Final = 16

_NO_SIGNS: Final = bytes(set(range(256)) - set(b'{[,"\\'))
_BOM: Final = b"\xef\xbb\xbf"


def malformed(problem: str, at: Place = ()) -> ManifestInvalidError:
    """The error that tells what is wrong, and where: ``("layers", 3, "size")`` reads ``layers[3].size``."""
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).lstrip(".")
    if not where:
        return ManifestInvalidError(problem)
    return ManifestInvalidError(f"{where}: {problem}", detail={"at": where})


def check_structure(payload: bytes) -> bytes:
    """The payload's opening brackets, commas, quotes and backslashes; `ManifestInvalidError` for too many."""
    signs = payload.translate(None, _NO_SIGNS)  # once over the payload, and not once for each sign
    structure = sum(map(signs.count, (b"{", b"[", b",")))
    if structure > FREE_STRUCTURE + len(payload) // BYTES_PER_STRUCTURE:
        raise malformed(f"{structure} brackets and commas in {len(payload)} bytes are too many for a manifest")
    return signs


def read_document(payload: bytes) -> Document:
    """The JSON object that the payload is, all of it checked; else `ManifestInvalidError`."""
    signs = check_structure(payload)
    document = _decode(_text(payload))
    if not isinstance(document, dict):
        raise malformed(f"a manifest is a JSON object, not a {_NAMES.get(type(document), 'number')}")
    if signs.count(b"{") + signs.count(b"[") > MAX_DEPTH:
        _check_depth(document)
    # Without an escape, there is neither: UTF-8 has no surrogates, and a bare NUL is no JSON.
    if b"\\u" in payload:
        _check_strings(document)
    return document


_NAMES: Final = {list: "list", str: "string", bool: "boolean", type(None): "null"}


def _text(payload: bytes) -> str:
    """The payload as text: UTF-8 without a byte order mark (RFC 8259, section 8.1)."""
    if payload.startswith(_BOM):
        raise malformed("the manifest begins with a byte order mark: send UTF-8 without one")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"the manifest is not UTF-8: byte {error.start} is wrong ({error.reason})") from None


def _decode(text: str) -> object:
    """The JSON value, and nothing behind it."""
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise malformed(f"the manifest is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise malformed(f"the manifest is nested deeper than {MAX_DEPTH} levels") from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> Document:
    """An object from its names and values: each name once."""
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise malformed(f"the name {name[:80]!a} stands twice in one object")
            seen.add(name)
    return document


def _integer(text: str) -> int:
    _check_digits(text)
    return int(text)


def _float(text: str) -> float:
    _check_digits(text)
    exponent = text.lower().partition("e")[2]
    value = float(text)
    if math.isinf(value) or (exponent and abs(int(exponent)) > MAX_EXPONENT):
        raise malformed(f"the number {text} is beyond a double: its exponent is too large")
    return value


def _check_digits(text: str) -> None:
    if len(text) > MAX_DIGITS and sum(map(str.isdigit, text)) > MAX_DIGITS:
        raise malformed(f"the number {text[:MAX_DIGITS]}... has more than {MAX_DIGITS} digits")


def _refuse_constant(text: str) -> NoReturn:
    raise malformed(f"{text} is no JSON number (RFC 8259, section 6)")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant
)


_CONTAINERS: Final = frozenset({dict, list})


def _check_depth(document: Document) -> None:
    """Level by level, so that depth costs no recursion."""
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        level = [value for container in level for value in _values(container) if type(value) in _CONTAINERS]
        if not level:
            return
    raise malformed(f"the manifest is nested deeper than {MAX_DEPTH} levels")


def _values(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()


def _check_strings(document: Document) -> None:
    """No name and no value has what PostgreSQL's text can't hold."""
    waiting: list[object] = [document]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict):
            for name in container:
                _check_string(name)
        for value in _values(container):
            if isinstance(value, str):
                _check_string(value)
            elif isinstance(value, (dict, list)):
                waiting.append(value)


def _check_string(text: str) -> None:
    if "\0" in text:
        raise malformed(f"the string {text[:80]!a} has a NUL character")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 40) : error.start + 40]
        raise malformed(f"the string {around!a} has half of a surrogate pair") from None
