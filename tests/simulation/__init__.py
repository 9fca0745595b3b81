"""The real loops of the scheduler, on a clock and a database of the test's own."""
