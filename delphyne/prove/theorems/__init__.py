# SPDX-License-Identifier: Apache-2.0
"""The theorems, one file for each subject."""
