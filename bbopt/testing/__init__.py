"""Contract suites that strategies must pass, for our own and for plug-in authors."""
