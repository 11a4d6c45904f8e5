"""The only door to the Kubernetes API, and to snapshots of it in files."""
