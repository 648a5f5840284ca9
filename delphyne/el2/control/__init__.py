# SPDX-License-Identifier: Apache-2.0
"""The log, and the reports of traps and crashes."""
