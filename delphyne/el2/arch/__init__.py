# SPDX-License-Identifier: Apache-2.0
"""What the Arm manuals and the firmware interfaces define. Nothing here knows of virtual machines."""
