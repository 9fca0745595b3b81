"""What a job type is and how one attempt of a job runs, from its args to its outcome."""
