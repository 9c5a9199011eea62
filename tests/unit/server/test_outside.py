"""What the rules take from outside."""

import re

from bbopt_server.studies.outside import Outside


def test_no_two_lease_tokens_are_the_same() -> None:
    outside, another = Outside(), Outside()
    tokens = [each.new_token() for each in (outside, another) for _ in range(1000)]
    assert len(set(tokens)) == len(tokens)
    assert all(re.fullmatch("[A-Za-z0-9_-]{16}", each) for each in tokens)
