"""Web pages that show schedules, jobs and the cluster, and steer them."""
