# SPDX-License-Identifier: Apache-2.0
"""What the back end can refuse, each as one line for the user."""

from __future__ import annotations


class BackError(Exception):
    """A program, object or image that cannot be built or may not be used. The text is one line unless it lists findings."""


class ToolMissing(BackError):
    """A tool of the machine is not installed; the text names the Debian package."""

    def __init__(self, tool: str, package: str) -> None:
        """Name the tool and the package."""
        super().__init__(f"{tool} is not installed; install the Debian package {package}")
