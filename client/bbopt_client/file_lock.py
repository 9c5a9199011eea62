"""An advisory lock on an open file, given up by the system when its process ends.

That is what makes it useful: whoever can take the lock of a file knows that the process that
held it is gone, however it went.
"""

import errno
import sys

if sys.platform == "win32":
    import msvcrt

    def lock_file(descriptor: int, *, blocking: bool) -> bool:
        """Take the lock of an open file; ``False`` if another process has it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if blocking else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True
else:
    import fcntl

    def lock_file(descriptor: int, *, blocking: bool) -> bool:
        """Take the lock of an open file; ``False`` if another process has it.

        Args:
            descriptor: The open file; closing it gives the lock up.
            blocking: Wait for the holder to end.

        Raises:
            OSError: The file system has no locks.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True
