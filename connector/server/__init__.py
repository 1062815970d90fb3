"""The faces over HTTP: probes, status, metrics, one page, and a few commands.

`serve` in routes.py opens the listener, `Commands` there names what the page's commands call, `Access` in access.py
who may call what.
"""
