# SPDX-License-Identifier: Apache-2.0
"""What ./try shows, a step a module; tests/try.py runs them in turn."""
