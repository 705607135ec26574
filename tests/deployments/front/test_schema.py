"""The description of the API, and schemathesis, which believes it and tries everything that it says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tasks.adapters.registry import Registry
from tests.deployments.front.conftest import Door, a_running_execution, opened
