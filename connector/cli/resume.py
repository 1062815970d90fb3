"""`oci-sync resume`: ticks again after `pause`."""

from connector.cli.trigger import resume

__all__ = ["resume"]
