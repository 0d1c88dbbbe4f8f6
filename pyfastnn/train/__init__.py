"""Training: the Trainer and what it keeps and shows."""
