"""The archive layers of one artifact as one view of paths: whiteouts, opaque directories, replacement. Pure.

Rules (image-spec layer.md, "Applying Changesets"). (1) Layers apply in the order of the manifest; within one layer a
later entry of a name replaces the earlier, as every unpacker does. (2) `.wh.<name>` takes `<name>` away, and
`.wh..wh..opq` all that is in its directory: from lower layers only, wherever the marker stands in its own. (3) What is
not a directory hides all that was below its path; a directory replaces what is not one. (4) Symbolic links are never
followed; a path through one makes a directory of it.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Generic, TypeVar

from msgspec import Struct, field

WHITEOUT = ".wh."
_META = ".wh..wh."  # reserved by AUFS, where whiteouts come from; only the opaque marker of them means anything
_OPAQUE = ".wh..wh..opq"

Leaf = TypeVar("Leaf")


class Marker(Enum):
    """What an entry's path is by its `.wh.` parts."""

    NONE = "none"
    WHITEOUT = "whiteout"
    OPAQUE = "opaque"
    MEANINGLESS = "meaningless"


def read_marker(path: str) -> tuple[Marker, str]:
    """What a canonical path marks, and the path it means: the one that is taken away, or the opaque directory."""
    if WHITEOUT not in path:
        return Marker.NONE, path
    directory, _, name = path.rpartition("/")
    if any(part.startswith(WHITEOUT) for part in directory.split("/")):
        return Marker.MEANINGLESS, path
    if not name.startswith(WHITEOUT):
        return Marker.NONE, path
    if name == _OPAQUE:
        return Marker.OPAQUE, directory
    hidden = name.removeprefix(WHITEOUT)
    if name.startswith(_META) or hidden in ("", ".", ".."):
        return Marker.MEANINGLESS, path
    return Marker.WHITEOUT, f"{directory}/{hidden}" if directory else hidden


class _Directory(Struct, Generic[Leaf]):
    """`layer` is the one that last put it; `cleared_by` the one that took everything of lower layers out of it."""

    layer: int
    children: "dict[str, _Directory[Leaf] | _Held[Leaf]]" = field(default_factory=dict)
    cleared_by: int = -1


class _Held(Struct, Generic[Leaf]):
    """`order` counts all that was ever put, so that the view keeps the order of manifest and archive."""

    layer: int
    order: int
    leaf: Leaf


class Overlay(Generic[Leaf]):
    """The merged view. `put`, `put_directory`, `take_away` and `make_opaque` come layer by layer, 0 first.

    `on_new_directory` is called with the name of each directory that comes into being, so that it can be counted.
    """

    def __init__(self, on_new_directory: Callable[[str], None]) -> None:
        self._root: _Directory[Leaf] = _Directory(layer=-1)
        self._on_new_directory = on_new_directory
        self._order = 0

    def put(self, layer: int, path: str, leaf: Leaf) -> None:
        """Put what is not a directory at a path; what was there, or below it, is gone."""
        directory_path, _, name = path.rpartition("/")
        directory = self._make_directory(layer, directory_path)
        directory.children[name] = _Held(layer, self._order, leaf)
        self._order += 1

    def put_directory(self, layer: int, path: str) -> None:
        """Put a directory; one that is there keeps what it holds."""
        self._make_directory(layer, path)

    def find(self, path: str) -> Leaf | None:
        """What is at a path now; None for nothing and for directories."""
        found = self._walk(path)
        return found.leaf if isinstance(found, _Held) else None

    def take_away(self, layer: int, path: str) -> None:
        """Apply a whiteout of a layer: a path of lower layers, and all below it, is gone."""
        directory_path, _, name = path.rpartition("/")
        directory = self._walk(directory_path)
        if not isinstance(directory, _Directory):
            return
        child = directory.children.get(name)
        if child is None:
            return
        if child.layer < layer:
            del directory.children[name]  # a directory is as new as the newest of what is below it
        elif isinstance(child, _Directory):
            self._clear(child, layer)

    def make_opaque(self, layer: int, path: str) -> None:
        """Apply an opaque marker of a layer: all that lower layers have in a directory is gone."""
        directory = self._walk(path)
        if isinstance(directory, _Directory):
            self._clear(directory, layer)

    def __iter__(self) -> Iterator[tuple[str, Leaf]]:
        """Path and leaf of all that is visible, in the order in which it was put."""
        visible = []
        pending: list[tuple[str, _Directory[Leaf]]] = [("", self._root)]
        while pending:
            prefix, directory = pending.pop()
            for name, child in directory.children.items():
                if isinstance(child, _Directory):
                    pending.append((f"{prefix}{name}/", child))
                else:
                    visible.append((child.order, prefix + name, child.leaf))
        visible.sort(key=lambda item: item[0])
        return ((path, leaf) for _, path, leaf in visible)

    def _walk(self, path: str) -> _Directory[Leaf] | _Held[Leaf] | None:
        found: _Directory[Leaf] | _Held[Leaf] = self._root
        for name in path.split("/") if path else ():
            child = found.children.get(name) if isinstance(found, _Directory) else None
            if child is None:
                return None
            found = child
        return found

    def _make_directory(self, layer: int, path: str) -> _Directory[Leaf]:
        directory = self._root
        for name in path.split("/") if path else ():
            child = directory.children.get(name)
            if not isinstance(child, _Directory):
                self._on_new_directory(name)
                child = _Directory(layer)
                directory.children[name] = child
            child.layer = layer
            directory = child
        return directory

    def _clear(self, directory: _Directory[Leaf], layer: int) -> None:
        """Take all of lower layers out of a directory, at any depth.

        A directory that was cleared by this layer holds nothing of lower ones any more, nor will it; it is passed
        over, so that many markers of one directory cost no more than one.
        """
        pending = [directory]
        while pending:
            current = pending.pop()
            if current.cleared_by == layer:
                continue
            current.cleared_by = layer
            current.children = {name: child for name, child in current.children.items() if child.layer >= layer}
            pending += [child for child in current.children.values() if isinstance(child, _Directory)]
