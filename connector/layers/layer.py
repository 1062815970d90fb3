"""What an error says of a layer: its place in the manifest, its type, its digest, and the entry inside. Pure.

Rules. (1) Every LayerError of this room is made here, so each names the layer. (2) Foreign text (paths, media types)
is quoted and cut, so that a hostile name can neither forge a log line nor fill one.
"""

from msgspec import Struct

from connector.errors import LayerError
from connector.oci.manifest import Descriptor

TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"

PUBLISHER = "push the artifact again"

_QUOTED_CHARACTERS = 200  # a path may have 4,096 bytes; an error line should stay readable


class Layer(Struct, frozen=True):
    """A descriptor and its 0-based place in the manifest; `artifact` is the reference that errors name."""

    index: int
    descriptor: Descriptor
    artifact: str = ""

    @property
    def title(self) -> str | None:
        """The title annotation as it stands; None where there is none."""
        return self.descriptor.annotations.get(TITLE)

    @property
    def media_type(self) -> str:
        """Lower case and without parameters, as types are compared (RFC 6838, section 4.2)."""
        return self.descriptor.media_type.partition(";")[0].strip().lower()

    def __str__(self) -> str:
        # 'sha256:' and 12 digits tell layers of one manifest apart, and fit a line.
        return f"layer {self.index} ({quoted(self.descriptor.media_type)[1:-1]}, {self.descriptor.digest[:19]})"

    def error(self, reason: str, cause: str, remedy: str, entry: str | bytes | None = None) -> LayerError:
        """A LayerError that names this layer, its whole digest and its artifact and, inside an archive, the entry."""
        where = f"layer {self.index} ({quoted(self.descriptor.media_type)[1:-1]}, {self.descriptor.digest})"
        where += "" if entry is None else f", entry {quoted(entry)}"
        return LayerError(reason=reason, doing=f"extracting {where}{self.of}", cause=cause, remedy=remedy)

    @property
    def of(self) -> str:
        """` of <artifact>`, to follow the name of a part of it; empty where the artifact is not named."""
        return f" of {self.artifact}" if self.artifact else ""

    def unreadable(self, error: OSError) -> LayerError:
        """The blob, or the spool, on this host's disk could not be read or written."""
        return self.error(
            "SpoolFailed",
            f"the spool failed: {error.strerror or type(error).__name__}",
            "check the disk behind spool.directory (operator)",
        )


def quoted(text: str | bytes) -> str:
    """Foreign text in quotes, escaped and cut to a readable length."""
    cut = text[:_QUOTED_CHARACTERS]
    shown = ascii(cut) if isinstance(cut, bytes) else repr(cut)
    return shown if len(text) <= _QUOTED_CHARACTERS else f"{shown}… ({len(text)} long)"
