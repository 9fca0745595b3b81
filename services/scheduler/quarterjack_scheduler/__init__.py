"""Elects a leader among replicas and enqueues each tick exactly once."""
