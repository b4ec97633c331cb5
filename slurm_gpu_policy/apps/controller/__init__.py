"""``gpu-policyd``: the controller."""
