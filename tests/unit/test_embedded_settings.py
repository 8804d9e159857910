"""What the embedded Postgres takes of a machine."""

import pytest

from app.embedded.postgres import buffer_size


@pytest.mark.parametrize(
    ("memory_gb", "expected"), [(0.5, "128MB"), (2, "256MB"), (8, "1024MB"), (64, "1024MB")]
)  # fmt: skip
def test_buffers_grow_with_the_machine_within_bounds(memory_gb: float, expected: str) -> None:
    assert buffer_size(int(memory_gb * 2**30)) == expected
