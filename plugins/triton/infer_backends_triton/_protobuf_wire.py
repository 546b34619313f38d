"""The wire format of protobuf, as far as large fields of bytes need it. Pure.

protobuf's own library copies such a field on its way out and on its way in. These functions write
what belongs before bytes that lie elsewhere, and find the bytes in a message without copying them
(Protocol Buffers, "Encoding").
"""

from __future__ import annotations

from functools import lru_cache

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
# The most bytes of a key, a length (both have 32 bits) and a number.
_LONGEST_KEY, _LONGEST_NUMBER = 5, 10


class _Unusual(Exception):
    """Wrong, or nothing that is usually sent."""


@lru_cache(1024)
def field_prefix(number: int, length: int) -> bytes:
    """What stands before the bytes of a field.

    Args:
        number: The field's number.
        length: How many bytes follow.
    """
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def split_off(
    message: bytes | memoryview, number: int, most: int
) -> tuple[list[memoryview], bytes] | None:
    """The values of one field of a message, and the message without them.

    Args:
        message: The serialised message.
        number: The number of a field of bytes, or of messages.
        most: How many values there are, at most.

    Returns:
        Views of ``message``, in their order, and a message of all other fields, which may be
        wrong in itself. None for what is wrong or unusual in the framing, and for more values:
        protobuf's own parser has to judge that message.
    """
    wanted = number << 3 | _LENGTH_DELIMITED
    end = len(message)
    view = memoryview(message)
    values: list[memoryview] = []
    others: list[memoryview] = []
    position = others_start = 0
    try:
        while position < end:
            key_start = position
            key, position = _read_varint(message, position)
            if key != wanted:
                position = _skip(message, position, key)
                continue
            others.append(view[others_start:key_start])
            length, position = _read_varint(message, position)
            if length > end - position or len(values) == most:
                return None
            others_start = position + length
            values.append(view[position:others_start])
            position = others_start
    except (IndexError, _Unusual):
        return None
    if position != end:
        return None
    others.append(view[others_start:])
    return values, b"".join(others)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _read_varint(message: bytes | memoryview, position: int) -> tuple[int, int]:
    """A key or a length, and where it ends. The end of the message is an IndexError."""
    byte = message[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    for index in range(1, _LONGEST_KEY):
        byte = message[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if byte == 0:  # Longer than it need be.
                break
            return value, position + index + 1
    raise _Unusual


def _skip(message: bytes | memoryview, position: int, key: int) -> int:
    """Where the field ends whose key ends at ``position``; maybe beyond the message."""
    kind = key & 7
    if key < 8 or key >= 2**32:  # There is no field 0, and none over 29 bits.
        raise _Unusual
    if kind == _LENGTH_DELIMITED:
        length, position = _read_varint(message, position)
        return position + length
    if kind == _VARINT:
        for end in range(position, position + _LONGEST_NUMBER):
            if message[end] < 0x80:
                return end + 1
    size = _FIXED_SIZES.get(kind)
    if size is None:
        raise _Unusual
    return position + size
