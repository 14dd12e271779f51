"""The application itself, for what an HTTP client can't send."""

from __future__ import annotations

from functools import partial

import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from tests.api.exchange import Exchange, exchange


@pytest.fixture
def application(registry: Registry) -> Application:
    return Application(registry, limits=Limits(), access_log=None)


@pytest.fixture
def impatient(registry: Registry) -> Application:
    """One that waits a tenth of a second for the next piece of a body."""
    return Application(registry, limits=Limits(body_timeout_s=0.1), access_log=None)


@pytest.fixture
def raw(application: Application) -> Exchange:
    """Sends a request exactly as it is given."""
    return partial(exchange, application)
