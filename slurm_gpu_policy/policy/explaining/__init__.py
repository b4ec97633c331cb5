"""Why a job stands and waits where it does, in words, and what would change it."""
