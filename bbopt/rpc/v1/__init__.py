"""Stubs generated from ``proto/bbopt/rpc/v1`` by ``proto/compile.py``; never edited by hand."""
