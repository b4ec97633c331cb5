"""The books at work: charging, what people ask of them, and what Slurm is told."""
