"""Counter-based random streams: the same seed and path give the same numbers, in any order of
use.

There is no generator to carry, save or share: a consumer names what it draws for, for example
``stream(study_seed, "ask", 17)``, and nobody else's draws can disturb it.
"""

import hashlib

import numpy as np


def stream(seed: int, /, *path: int | str) -> np.random.Generator:
    """Return the generator that belongs to a seed and a path.

    Args:
        seed: Any integer, usually the study's.
        *path: What the numbers are for; integers and strings are different (``1`` is not
            ``"1"``), and ``("a", "b")`` is not ``("ab",)``.

    Returns:
        A fresh Philox generator at its first number.
    """
    digest = hashlib.blake2b(digest_size=16, person=b"bbopt.stream")
    for part in (seed, *path):
        kind = b"s" if isinstance(part, str) else b"i"
        data = str(part).encode()
        digest.update(kind + len(data).to_bytes(8, "little") + data)
    key = np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
