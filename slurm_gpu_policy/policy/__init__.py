"""What should be: pure functions of requests, snapshots and the site's policy."""
