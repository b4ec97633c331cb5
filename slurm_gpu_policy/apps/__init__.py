"""Who calls: the programs. Exit codes and terminals are chosen in here and nowhere else."""
