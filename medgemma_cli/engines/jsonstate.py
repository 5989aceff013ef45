"""Where a JSON text stands: inside a string or not, and at which place of its schema."""


class JsonState:
    """Reads compact JSON byte by byte.

    Attributes:
        in_string: whether the next byte is inside a string.
        string: the bytes of that string, or of the last one, so far.
        last: the last byte outside of strings, quotation marks among them.
        size: the characters read.
    """

    def __init__(self) -> None:
        self.in_string = False
        self.string = b""
        self.last = b""
        self.size = 0
        self._escaped = False
        # A name for each object that is open, "[]" for each list.
        self._open: list[str] = []

    @property
    def path(self) -> str:
        """The place of the value that is being written or comes next, as ``results[].flag``."""
        return ".".join(self._open).replace(".[]", "[]")

    def copy(self) -> "JsonState":
        """One that goes on from here by itself."""
        other = JsonState()
        other.__dict__.update(self.__dict__)
        other._open = list(self._open)
        return other

    def feed(self, data: bytes) -> None:
        """Read on."""
        for byte in data:
            # A UTF-8 continuation byte begins no character.
            self.size += byte & 0xC0 != 0x80
            self._one(bytes((byte,)))

    def _one(self, byte: bytes) -> None:
        if self.in_string:
            self._inside(byte)
            return
        self.last = byte
        if byte == b'"':
            self.in_string, self.string = True, b""
        elif byte == b"{":
            self._open.append("")
        elif byte == b"[":
            self._open.append("[]")
        elif byte in (b"}", b"]") and self._open:
            self._open.pop()
        elif byte == b":" and self._open:
            self._open[-1] = self.string.decode("utf-8", "replace")

    def _inside(self, byte: bytes) -> None:
        if self._escaped or byte == b"\\":
            self._escaped = not self._escaped
        elif byte == b'"':
            self.in_string = False
            self.last = byte
            return
        self.string += byte
