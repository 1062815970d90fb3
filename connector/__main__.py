"""`python -m connector`, and the command `oci-sync`."""

import gc
import sys

from connector.cli import execute

# Imports leave 200,000 objects that stay. The default of 700 new ones before the collector looks costs a fifth of the
# start; with 20,000 what waits for it is some megabytes at most.
_OBJECTS_BEFORE_COLLECTION = 20_000


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, 20, 20)
    try:
        code = execute(sys.argv[1:])
    finally:
        gc.freeze()  # nothing to look for at the end: the interpreter would search all objects, three times, for 0.1 s
    sys.exit(code)


if __name__ == "__main__":
    main()
