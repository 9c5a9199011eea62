"""Measurements of bbopt: sample efficiency, latency, throughput."""
