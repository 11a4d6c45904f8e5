"""The storage operator for DittoFS on Kubernetes.

`storage` decides: the model of a DittoServer, its rules, its objects, its status, its CustomResourceDefinition; pure,
no I/O. `syntax` and `manifests` read files. `cluster` is the only door to the Kubernetes API, or to a snapshot of it in
files. `admission` carries decisions to the API server, `reconcile` carries them into the cluster. `serve`, `check`,
`plan` and `df` put them together, `__main__` is the command line. Each imports only what is named before it. `certs`,
beside `app`, decides about the operator's own certificate.
"""
