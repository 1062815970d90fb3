"""`oci-sync pause`: no ticks of a source, or of all, until `resume`."""

from connector.cli.trigger import pause

__all__ = ["pause"]
