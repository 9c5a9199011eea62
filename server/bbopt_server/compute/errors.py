"""Why there is no answer from compute.

Both are retryable: an ask that meets one is answered by a fallback, a prediction is asked
for again. What a strategy itself refuses arrives as the library's own errors
(``UnsupportedError``, ``PreconditionError`` ...), and a full queue as ``ExhaustedError``.
"""

from bbopt.errors import UnavailableError


class ComputeUnavailableError(UnavailableError):
    """No compute process can take the job: starting, stopping, or not installed."""


class ComputeFailedError(UnavailableError):
    """The job was tried and cannot be done: it crashed, hung, or the study is set aside."""
