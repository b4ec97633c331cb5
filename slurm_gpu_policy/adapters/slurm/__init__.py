"""Slurm, reached through its commands or through pyslurm.

``commands.py`` runs Slurm's programs, ``pyslurm_adapter.py`` calls its library, and
``select.py`` chooses. Whatever Slurm prints is taken apart in ``parse_*.py``, which are pure.
"""
