# SPDX-License-Identifier: Apache-2.0
"""A hostile module's device (modules/command_device.h)."""

from __future__ import annotations

import os


def tell(device: str, command: str) -> None:
    """The module does it. Raises OSError where it cannot, or is not there: a file that is written to and does not exist would be made."""
    file = os.open(device, os.O_WRONLY)
    try:
        os.write(file, command.encode())
    finally:
        os.close(file)
