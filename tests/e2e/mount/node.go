package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/willscott/go-nfs-client/nfs"
)

// node is a file or a folder of a share. Each request to it becomes requests to the server; nothing is cached.
type node struct {
	fs.Inode
	share *Share
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

func (node *node) path(name string) string {
	return "/" + node.Path(nil) + "/" + name
}

func (node *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	err := node.share.use(func(target *nfs.Target) error { return fill(target, node.path(name), &out.Attr) })
	if err != nil {
		return nil, errno(err)
	}
	return node.child(ctx, out), 0
}

func (parent *node) child(ctx context.Context, out *fuse.EntryOut) *fs.Inode {
	stable := fs.StableAttr{Mode: out.Attr.Mode & syscall.S_IFMT, Ino: out.Attr.Ino}
	return parent.NewInode(ctx, &node{share: parent.share}, stable)
}

func (node *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return errno(node.share.use(func(target *nfs.Target) error { return fill(target, node.path(""), &out.Attr) }))
}

// Setattr changes the size alone.
func (node *node) Setattr(
	_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut,
) syscall.Errno {
	return errno(node.share.use(func(target *nfs.Target) error {
		if size, ok := in.GetSize(); ok {
			change := nfs.Sattr3{Size: nfs.SetSize{SetIt: true, Size: size}}
			if err := target.Setattr(node.path(""), change); err != nil {
				return err
			}
		}
		return fill(target, node.path(""), &out.Attr)
	}))
}

func (node *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var entries []fuse.DirEntry
	err := node.share.use(func(target *nfs.Target) error {
		listed, err := target.ReadDirPlus(node.path(""))
		for _, entry := range listed {
			entries = append(entries, fuse.DirEntry{Name: entry.Name(), Ino: entry.FileId, Mode: uint32(entry.Mode())})
		}
		return err
	})
	return fs.NewListDirStream(entries), errno(err)
}

func (node *node) Create(
	ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	err := node.share.use(func(target *nfs.Target) error {
		if _, err := target.Create(node.path(name), os.FileMode(mode).Perm()); err != nil {
			return err
		}
		return fill(target, node.path(name), &out.Attr)
	})
	if err != nil {
		return nil, nil, 0, errno(err)
	}
	return node.child(ctx, out), nil, fuse.FOPEN_DIRECT_IO, 0
}

func (node *node) Unlink(_ context.Context, name string) syscall.Errno {
	return errno(node.share.use(func(target *nfs.Target) error { return target.Remove(node.path(name)) }))
}

func (*node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (node *node) Read(_ context.Context, _ fs.FileHandle, part []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	count := 0
	err := node.share.use(func(target *nfs.Target) error {
		file, err := target.Open(node.path(""))
		if err != nil {
			return err
		}
		count, err = file.ReadAt(part, offset)
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	return fuse.ReadResultData(part[:count]), errno(err)
}

func (node *node) Write(_ context.Context, _ fs.FileHandle, content []byte, offset int64) (uint32, syscall.Errno) {
	count := 0
	err := node.share.use(func(target *nfs.Target) error {
		file, err := target.Open(node.path(""))
		if err != nil {
			return err
		}
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		count, err = file.Write(content)
		return err
	})
	return uint32(count), errno(err)
}

// fill looks a path up and keeps what the server says about it.
func fill(target *nfs.Target, path string, out *fuse.Attr) error {
	info, _, err := target.Lookup(path)
	if err != nil {
		return err
	}

	attributes := info.(*nfs.Fattr)
	out.Mode = uint32(syscall.S_IFREG) | attributes.FileMode&0o7777
	if attributes.IsDir() {
		out.Mode = uint32(syscall.S_IFDIR) | attributes.FileMode&0o7777
	}
	out.Ino, out.Nlink, out.Size = attributes.Fileid, attributes.Nlink, attributes.Filesize
	out.Uid, out.Gid = attributes.UID, attributes.GID
	out.Mtime = uint64(attributes.Mtime.Seconds)
	out.Atime, out.Ctime = out.Mtime, out.Mtime
	return nil
}

// errno turns an error of the server into that of a system call; the numbers of NFS 3 are mostly those of Unix.
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
	case errors.As(err, &refusal) && refusal.ErrorNum <= nfs.NFS3ErrROFS:
		return syscall.Errno(refusal.ErrorNum)
	}
	return syscall.EIO
}
