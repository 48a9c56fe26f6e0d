"""A real S3 server on loopback, for storages that are buckets."""

import itertools
from collections.abc import Iterator

import pytest

_names = itertools.count(1)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of the server; the environment leads every client of this process and its children there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "mlc-test-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "mlc-test-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr("s3fs.core.S3FileSystem.retries", 1)
        yield address
    server.stop()


@pytest.fixture
def bucket(s3: str) -> str:
    """URL of a folder in a bucket that is empty."""
    import s3fs

    name = f"bucket-{next(_names)}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}/mlc"
