"""The bbopt service: studies behind gRPC, kept in a store, with models in other processes.

``app.py`` wires everything together; nothing else does.
"""
