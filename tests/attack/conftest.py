# SPDX-License-Identifier: Apache-2.0
"""The bootable image, built once for all attacks of a process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hostile_host import Layout, layout

from delphyne.board import host
from delphyne.board.guest import build as guest_build
from delphyne.compiler.back.image import Built

sys.path.append(str(Path(__file__).resolve().parents[1] / "system"))  # the sessions with hosts and guests


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """For debugging: a release image keeps its lines about a host in the ring."""
    return host.build(tmp_path_factory.mktemp("image"), quiet=True, debug=True)


@pytest.fixture(scope="session")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The image in which EL2 measures its own stays."""
    return host.build(tmp_path_factory.mktemp("measuring-image"), quiet=True, stays=True)


@pytest.fixture(scope="session")
def places(built: Built) -> Layout:
    return layout(built)


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> guest_build.Guest:
    return guest_build.build(tmp_path_factory.mktemp("guest"))
