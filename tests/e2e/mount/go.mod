// The mount command of the node in the end-to-end test: it mounts NFS without the kernel, which may lack the client.
module dittofs.com/operator/mount

go 1.26.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/willscott/go-nfs-client v0.0.0-20251022144359-801f10d98886
)

require (
	github.com/rasky/go-xdr v0.0.0-20170124162913-1a41d1a06c93 // indirect
	golang.org/x/sys v0.28.0 // indirect
)
