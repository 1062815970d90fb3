"""What a layer is: media type, annotations and first bytes together, row by row of the module's table."""

import gzip
import lzma

import pytest

from connector.layers.layer import Layer
from connector.layers.layer_kind import HEAD_BYTES, LayerKind, decide
from tests.layers.artifacts import TAR, TAR_GZIP, TAR_ZSTD, BuiltLayer, contents, failure, layer, tar, zstd_frame

ARCHIVE = tar({"flows/a.yaml": b"a: 1\n"})
GZIP = gzip.compress(ARCHIVE, mtime=0)
ZSTD = zstd_frame(ARCHIVE)
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FLUX = "application/vnd.cncf.flux.content.v1.tar+gzip"
HELM = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"


def kind(built: BuiltLayer) -> LayerKind:
    return decide(Layer(3, built.descriptor), built.blob.data[:HEAD_BYTES]).kind


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (ARCHIVE, TAR),
        (GZIP, TAR_GZIP),
        (ZSTD, TAR_ZSTD),
        (GZIP, DOCKER),
        (GZIP, FLUX),
        (GZIP, HELM),
        (GZIP, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        (ARCHIVE, "application/x-tar"),
        (GZIP, "application/x-tar+gzip"),
        (GZIP, "application/tar+gzip; charset=binary"),
        (GZIP, TAR_GZIP.upper()),
        (bytes(1024), TAR),
    ],
)
def test_a_tar_type_without_a_title_is_an_archive(data: bytes, media_type: str) -> None:
    assert kind(layer(data, media_type)) is LayerKind.ARCHIVE


@pytest.mark.parametrize(("data", "media_type"), [(ARCHIVE, TAR_GZIP), (GZIP, TAR), (ZSTD, TAR_GZIP), (GZIP, TAR_ZSTD)])
def test_bytes_win_over_a_suffix_that_is_wrong_while_they_unpack(
    data: bytes, media_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert contents(layer(data, media_type)) == {"flows/a.yaml": b"a: 1\n"}
    assert "the media type says otherwise" in caplog.text


@pytest.mark.parametrize("media_type", [TAR, TAR_GZIP, TAR_ZSTD, DOCKER])
@pytest.mark.parametrize("data", [b"a: 1\n", b"", lzma.compress(ARCHIVE)])
def test_a_tar_type_without_a_title_whose_bytes_are_no_archive_is_an_error(data: bytes, media_type: str) -> None:
    error = failure(layer(data, media_type))

    assert error.reason == "BrokenArchive"
    assert "layer 0 (" + media_type in str(error)
    assert "it begins with b'" in str(error)


def test_xz_is_named_since_other_tools_read_it() -> None:
    assert "which is xz" in str(failure(layer(lzma.compress(ARCHIVE), TAR)))


@pytest.mark.parametrize("data", [b"a: 1\n", b"", ARCHIVE])
def test_a_titled_layer_of_the_type_that_oras_gives_to_everything_is_one_file(data: bytes) -> None:
    assert contents(layer(data, TAR, title="a.yaml")) == {"a.yaml": data}


@pytest.mark.parametrize(("data", "media_type"), [(GZIP, TAR_GZIP), (ZSTD, TAR_ZSTD), (ARCHIVE, "application/x-tar")])
def test_a_titled_layer_of_a_tar_type_that_somebody_chose_is_an_archive(data: bytes, media_type: str) -> None:
    assert contents(layer(data, media_type, title="flows.tar")) == {"flows/a.yaml": b"a: 1\n"}


def test_a_titled_layer_of_a_tar_type_that_is_no_archive_is_one_file(caplog: pytest.LogCaptureFixture) -> None:
    assert contents(layer(b"a: 1\n", TAR_GZIP, title="a.yaml")) == {"a.yaml": b"a: 1\n"}
    assert "the media type is an archive's" in caplog.text


@pytest.mark.parametrize("media_type", [TAR, TAR_GZIP, "application/octet-stream"])
@pytest.mark.parametrize("data", [ARCHIVE, GZIP, ZSTD])
def test_unpack_true_is_an_archive_whatever_the_type(data: bytes, media_type: str) -> None:
    assert contents(layer(data, media_type, title="flows", unpack="true")) == {"flows/a.yaml": b"a: 1\n"}


def test_unpack_true_on_something_else_is_an_error() -> None:
    assert failure(layer(b"text", TAR_GZIP, title="flows", unpack="true")).reason == "BrokenArchive"


def test_unpack_false_keeps_an_archive_as_it_is() -> None:
    built = layer(GZIP, TAR_GZIP, title="flows.tar.gz", unpack="false")

    assert contents(built, binary="base64") == {"flows.tar.gz": GZIP}


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (gzip.compress(b"{}", mtime=0), "application/json+gzip"),
        (zstd_frame(b"{}"), "application/json+zstd"),
        (gzip.compress(b"{}", mtime=0), "application/gzip"),
        (gzip.compress(b"{", mtime=0) + gzip.compress(b"}", mtime=0), "application/x-gzip"),
        (zstd_frame(b"{}"), "application/zstd"),
    ],
)
def test_a_compressed_file_is_decompressed_and_never_taken_for_an_archive(data: bytes, media_type: str) -> None:
    assert contents(layer(data, media_type, title="a.json")) == {"a.json": b"{}"}
    assert contents(layer(data, media_type)) == {"layer-0": b"{}"}


def test_a_compressed_file_whose_name_says_so_stays_as_it_is() -> None:
    data = gzip.compress(b"{}", mtime=0)

    assert contents(layer(data, "application/gzip", title="a.json.gz"), binary="base64") == {"a.json.gz": data}


@pytest.mark.parametrize("data", [b"{}", b"", b"\x1f"])
def test_a_compressed_file_s_type_on_other_bytes_is_an_error(data: bytes) -> None:
    error = failure(layer(data, "application/json+gzip", title="a.json"))

    assert error.reason == "BrokenArchive"
    assert repr(data) in str(error)


@pytest.mark.parametrize("media_type", ["application/yaml", "application/octet-stream", "", "text/x.tarball"])
@pytest.mark.parametrize("data", [b"a: 1\n", ARCHIVE])
def test_any_other_type_is_one_file_named_after_its_title_or_place(data: bytes, media_type: str) -> None:
    first = layer(data, media_type)
    second = layer(data + b"\n", media_type, title="b")

    assert contents(first, second) == {"layer-0": data, "b": data + b"\n"}


def test_the_empty_descriptor_is_nothing_and_its_blob_is_not_read() -> None:
    empty = layer(b"{}", EMPTY)

    assert contents(layer(b"x", "text/plain", title="a"), empty) == {"a": b"x"}
    assert empty.blob.opened == []
    assert failure(empty).reason == "EmptyArtifact"
    assert contents(empty, allow_empty=True) == {}


def test_an_empty_descriptor_with_a_title_is_a_file_of_two_bytes() -> None:
    assert contents(layer(b"{}", EMPTY, title="a.json")) == {"a.json": b"{}"}
