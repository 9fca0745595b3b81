"""Faults done to real replicas, on real servers, and what must hold whatever was done."""
