"""The service on the wire: reads messages, calls ``Studies`` once, writes messages."""
