# SPDX-License-Identifier: Apache-2.0
"""The bootable image, built once for all system tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import host


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host.build(tmp_path_factory.mktemp("image"), quiet=True).image
