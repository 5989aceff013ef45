"""A file that only grows, by whole lines; a failed write leaves it as it was."""

import contextlib
import errno
import os
from pathlib import Path

from medgemma_cli.errors import StorageError
from medgemma_cli.files import write_all

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class AppendOnly:
    """One file, open for appending, made if it is not there (0600).

    Attributes:
        size: bytes up to the end of the last whole line; set by who has read the file.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._fsync = fsync
        self.size = os.fstat(self._descriptor).st_size

    def append(self, data: bytes) -> int:
        """Write a whole line; the offset at which it begins. A kill may leave a part of it.

        Raises:
            StorageError: 74; the file is cut back to what it was.
        """
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            # Where even this fails there is a torn tail, for the next opening to mend.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise storage_error(error) from None
        offset = self.size
        self.size += len(data)
        return offset

    def sync(self) -> None:
        """Make what was appended durable, unless that was not asked for.

        Raises:
            StorageError: 74. Not to be tried again: the kernel may have dropped the pages.
        """
        if self._fsync:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise storage_error(error) from None

    def cut(self, size: int) -> None:
        """Cut off what stands behind `size`.

        Raises:
            OSError: as the system says.
        """
        os.ftruncate(self._descriptor, size)
        self.size = size

    def close(self) -> None:
        """Let go of the file; twice is no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def storage_error(error: OSError) -> StorageError:
    """What a failed write means for the user."""
    what = "No room is left" if error.errno in _NO_ROOM else "Writing failed"
    return StorageError(
        f"{what} in the output folder ({error.strerror}).",
        "Make room or check the disk, then run again; everything finished so far is kept.",
    )
