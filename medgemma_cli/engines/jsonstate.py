"""Where a JSON text stands: inside a string or not, and under which property name."""

import copy


class JsonState:
    """Reads compact JSON byte by byte.

    Attributes:
        key: the property name read last.
        in_string: whether the next byte is inside a string.
        string: the bytes of that string so far.
        last: the last byte outside of strings.
        size: the characters read.
    """

    def __init__(self) -> None:
        self.key = ""
        self.in_string = False
        self.string = b""
        self.last = b""
        self.size = 0
        self._escaped = False

    def copy(self) -> "JsonState":
        """One that goes on from here by itself."""
        return copy.copy(self)

    def feed(self, data: bytes) -> None:
        """Read on."""
        for byte in data:
            # A UTF-8 continuation byte begins no character.
            self.size += byte & 0xC0 != 0x80
            self._one(bytes((byte,)))

    def _one(self, byte: bytes) -> None:
        if not self.in_string:
            self.in_string = byte == b'"'
            if self.in_string:
                self.string = b""
            elif byte == b":":
                self.key = self.string.decode("utf-8", "replace")
            self.last = byte
        elif self._escaped or byte == b"\\":
            self._escaped = not self._escaped
            self.string += byte
        elif byte == b'"':
            self.in_string = False
            self.last = byte
        else:
            self.string += byte
