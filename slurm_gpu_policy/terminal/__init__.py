"""What every program does at a terminal: end with the right code, print safely, draw tables.

Imported at each start of ``gpu-submit``, so nothing here imports more than it must.
"""
