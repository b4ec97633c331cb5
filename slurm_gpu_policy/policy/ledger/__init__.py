"""Budgets: who has how much left, what is charged to whom, and what follows from it."""
