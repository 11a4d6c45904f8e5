"""The storage operator for DittoFS on Kubernetes.

`storage` decides: the model of a DittoServer, its rules, its objects, its status, its CustomResourceDefinition; pure,
no I/O. `syntax` and `manifests` read files. `cluster` is the only door to the Kubernetes API, or to a snapshot of it in
files. `admission` carries decisions to the API server, `reconcile` carries them into the cluster. `serve` puts them
together, `cli` has the commands, `__main__` finds the one to run. Each imports only what is named before it. `certs`,
beside `app`, decides about the operator's own certificate.
"""
