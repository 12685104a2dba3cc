# SPDX-License-Identifier: MIT
"""What the tests, the demo, the proofs and the bench share. No test imports from another test."""
