"""The seam between the halves: a file as a record and back, the source offset, the value formats."""
