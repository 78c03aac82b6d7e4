"""Settings of the tests that need neither broker nor kernel."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes says nothing on a machine that does other work too.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
