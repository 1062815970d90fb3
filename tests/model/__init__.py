"""The protocol of ownership and commit as a model, and its exhaustive check."""
