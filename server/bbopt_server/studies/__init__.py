"""The rules of studies: what asking, telling and leasing mean, whatever store keeps them.

Start reading at ``studies.py``, the one door. The rules themselves are plain functions over
a ``Transaction``; they run one after the other, so they need no locks.
"""

from bbopt_server.studies.studies import Studies

__all__ = ["Studies"]
