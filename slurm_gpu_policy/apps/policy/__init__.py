"""``gpu-policy``: the queue, explanations, and the operator's checks; one module a command."""
