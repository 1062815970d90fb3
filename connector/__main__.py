"""`python -m connector`, and the command `oci-sync`."""

import sys

from connector.cli import execute


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(execute(sys.argv[1:]))


if __name__ == "__main__":
    main()
