"""Laws that hold whatever happens."""

import pytest

# What a step of the machine got and what it should have got is worth reading.
pytest.register_assert_rewrite("tests.property.machine")
