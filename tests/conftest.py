"""Fixtures for all tests."""

from tests.environments import no_torch_environment, stock_environment

__all__ = ["no_torch_environment", "stock_environment"]
