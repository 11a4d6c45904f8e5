"""The storage operator for DittoFS on Kubernetes; docs/explanation/architecture.md has the details.

`storage` decides, without I/O: the model of a DittoServer, its rules, its objects, its status and Events, its
CustomResourceDefinition, and the advice of the commands. `logs` and `settings` configure the process, `syntax` and
`manifests` read files. `cluster` is the only door to the Kubernetes API, or to a snapshot of it in files, and `dittofs`
the only one to the servers themselves. `admission` answers admission reviews, `reconcile` brings the cluster to the
desired state, and `certificates` serves the webhook's certificate. `serve` runs them together, `cli` has the commands,
and `__main__` finds the one to run. Each imports only what is named before it.
`certs`, next to `app`, decides about the operator's own certificate.
"""
