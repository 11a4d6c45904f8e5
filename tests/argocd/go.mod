// The Lua interpreter of Argo CD, which runs the health check of a DittoServer in the tests.
module dittofs.com/operator/argocd

go 1.26.0

require github.com/yuin/gopher-lua v1.1.2
