"""The program ``gpu-submit``."""
