"""``bbopt demo``: watch worker processes tune a real classifier through a real server."""
