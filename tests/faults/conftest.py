"""A seed for each test, from the one of the run, which the head of the output names."""

import zlib

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    of_run: int = request.config.option.seed
    return zlib.crc32(f"{of_run} {request.node.originalname}".encode())
