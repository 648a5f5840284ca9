# SPDX-License-Identifier: Apache-2.0
"""The bootable image, built once for all system tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import host
from delphyne.compiler.back.image import Built


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Everything that a build writes."""
    return host.build(tmp_path_factory.mktemp("image"), quiet=True)


@pytest.fixture(scope="session")
def debug_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image that shows on the console what a host provokes."""
    return host.build(tmp_path_factory.mktemp("debug-image"), quiet=True, debug=True).image


@pytest.fixture(scope="session")
def image(whole: Built) -> Path:
    return whole.image
