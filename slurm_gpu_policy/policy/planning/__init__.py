"""What Slurm's database lacks of what the policy file wants (``gpu-policy plan``)."""
