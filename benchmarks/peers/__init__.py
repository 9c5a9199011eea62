"""Other optimizers, each in a virtual environment of its own."""
