"""``python -m bbopt_client.cli``: the ``bbopt`` command."""

from bbopt_client.cli.main import main

main()
