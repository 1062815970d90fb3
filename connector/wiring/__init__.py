"""Builds every part from the two files; the only room that knows all of them. It constructs, and decides nothing.

`open_parts` in parts.py makes what a process has once; source_half.py and sink_half.py build the halves on it;
`probe` in probe.py asks of the same parts what `validate` wants to know.
"""
