"""The wire: generated stubs in ``v1`` and the converters between domain and message."""
