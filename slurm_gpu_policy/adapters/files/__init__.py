"""Files of ours on this machine: written at once or not at all."""
