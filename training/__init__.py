"""Training: from the ledgers of explorations to data sets, and from these to models."""
