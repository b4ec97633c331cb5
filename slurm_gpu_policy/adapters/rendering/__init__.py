"""Scripts for sbatch: templates, quoting, and sbatch's own directive language."""
