"""Carries decisions into the cluster: makes what a DittoServer needs, keeps it so, and says how it went."""
