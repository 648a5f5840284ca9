# SPDX-License-Identifier: Apache-2.0
"""How hypothesis works here: as long as an example takes. Seconds on a shared machine say nothing about what is tested."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("delphyne", deadline=None)
hypothesis.settings.load_profile("delphyne")
