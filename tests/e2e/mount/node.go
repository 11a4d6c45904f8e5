package main

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/willscott/go-nfs-client/nfs"
)

// node is a file or a folder of a share. Each request to it becomes requests to the server; nothing is cached.
type node struct {
	fs.Inode
	share *nfs.Target
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
)

// turn makes requests one after another: the client of NFS keeps what it knows without a lock.
var turn sync.Mutex

func (node *node) path(name string) string {
	return "/" + node.Path(nil) + "/" + name
}

func (node *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	turn.Lock()
	defer turn.Unlock()
	return node.child(ctx, name, out)
}

func (parent *node) child(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	info, _, err := parent.share.Lookup(parent.path(name))
	if err != nil {
		return nil, errno(err)
	}
	attributes := info.(*nfs.Fattr)
	fill(&out.Attr, attributes)
	stable := fs.StableAttr{Mode: out.Attr.Mode & syscall.S_IFMT, Ino: attributes.Fileid}
	return parent.NewInode(ctx, &node{share: parent.share}, stable), 0
}

func (node *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	turn.Lock()
	defer turn.Unlock()
	return node.attributes(out)
}

func (node *node) attributes(out *fuse.AttrOut) syscall.Errno {
	info, _, err := node.share.Lookup(node.path(""))
	if err != nil {
		return errno(err)
	}
	fill(&out.Attr, info.(*nfs.Fattr))
	return 0
}

// Setattr changes the size alone.
func (node *node) Setattr(
	_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut,
) syscall.Errno {
	turn.Lock()
	defer turn.Unlock()

	if size, ok := in.GetSize(); ok {
		change := nfs.Sattr3{Size: nfs.SetSize{SetIt: true, Size: size}}
		if err := node.share.Setattr(node.path(""), change); err != nil {
			return errno(err)
		}
	}
	return node.attributes(out)
}

func (node *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	turn.Lock()
	defer turn.Unlock()

	listed, err := node.share.ReadDirPlus(node.path(""))
	if err != nil {
		return nil, errno(err)
	}
	var entries []fuse.DirEntry
	for _, entry := range listed {
		entries = append(entries, fuse.DirEntry{Name: entry.Name(), Ino: entry.FileId, Mode: uint32(entry.Mode())})
	}
	return fs.NewListDirStream(entries), 0
}

func (node *node) Create(
	ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	turn.Lock()
	defer turn.Unlock()

	if _, err := node.share.Create(node.path(name), os.FileMode(mode).Perm()); err != nil {
		return nil, nil, 0, errno(err)
	}
	created, problem := node.child(ctx, name, out)
	return created, nil, fuse.FOPEN_DIRECT_IO, problem
}

func (node *node) Unlink(_ context.Context, name string) syscall.Errno {
	turn.Lock()
	defer turn.Unlock()
	return errno(node.share.Remove(node.path(name)))
}

func (*node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (node *node) Read(_ context.Context, _ fs.FileHandle, target []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	turn.Lock()
	defer turn.Unlock()

	file, err := node.share.Open(node.path(""))
	if err != nil {
		return nil, errno(err)
	}
	count, err := file.ReadAt(target, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errno(err)
	}
	return fuse.ReadResultData(target[:count]), 0
}

func (node *node) Write(_ context.Context, _ fs.FileHandle, content []byte, offset int64) (uint32, syscall.Errno) {
	turn.Lock()
	defer turn.Unlock()

	file, err := node.share.Open(node.path(""))
	if err == nil {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return 0, errno(err)
	}
	count, err := file.Write(content)
	return uint32(count), errno(err)
}

func fill(out *fuse.Attr, attributes *nfs.Fattr) {
	out.Mode = uint32(syscall.S_IFREG) | attributes.FileMode&0o7777
	if attributes.IsDir() {
		out.Mode = uint32(syscall.S_IFDIR) | attributes.FileMode&0o7777
	}
	out.Ino, out.Nlink, out.Size = attributes.Fileid, attributes.Nlink, attributes.Filesize
	out.Uid, out.Gid = attributes.UID, attributes.GID
	out.Mtime, out.Atime, out.Ctime = uint64(attributes.Mtime.Seconds), uint64(attributes.Atime.Seconds), uint64(attributes.Ctime.Seconds)
}

// errno turns an error of the server into that of a system call; the numbers of NFS 3 are those of Unix.
func errno(err error) syscall.Errno {
	var refusal *nfs.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, os.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, os.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, os.ErrPermission):
		return syscall.EACCES
	case errors.As(err, &refusal) && refusal.ErrorNum < 100:
		return syscall.Errno(refusal.ErrorNum)
	}
	return syscall.EIO
}
