package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5"
	"github.com/willscott/go-nfs"
)

// serveNFS answers NFS and MOUNT on one port, as the real servers do, with files in the top folders of shares alone. To who
// sends nothing it tells, once they have closed their side, what greet tells.
func (server *Server) serveNFS(listener net.Listener) {
	clients := &clients{Listener: listener, accepted: make(chan net.Conn)}
	go func() { fail(nfs.Serve(clients, &handles{server})) }()

	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go func() {
			reader := bufio.NewReader(connection)
			if _, err := reader.Peek(1); err != nil {
				server.greet(connection, true)
				return
			}
			clients.accepted <- &peeked{connection, reader}
		}()
	}
}

// clients is a listener whose connections were accepted before.
type clients struct {
	net.Listener
	accepted chan net.Conn
}

func (clients *clients) Accept() (net.Conn, error) { return <-clients.accepted, nil }

// peeked is a connection of which the beginning has been read.
type peeked struct {
	net.Conn
	reader *bufio.Reader
}

func (connection *peeked) Read(content []byte) (int, error) { return connection.reader.Read(content) }

// handles are the names of shares and files themselves, so that they outlive a restart as those of the real servers do.
type handles struct{ server *Server }

// maxHandle is what the protocol allows.
const maxHandle = 64

func (handles *handles) Mount(_ context.Context, _ net.Conn, request nfs.MountRequest) (
	nfs.MountStatus, billy.Filesystem, []nfs.AuthFlavor,
) {
	top := &folder{handles.server, string(request.Dirpath)}
	if !strings.HasPrefix(top.share, "/") {
		return nfs.MountStatusErrNoEnt, top, nil
	}
	switch _, refusal := handles.server.mount(top.share, false); refusal {
	case "MNT3ERR_NOENT":
		return nfs.MountStatusErrNoEnt, top, nil
	case "MNT3ERR_ACCES":
		return nfs.MountStatusErrAcces, top, nil
	}
	return nfs.MountStatusOk, top, []nfs.AuthFlavor{nfs.AuthFlavorNull, nfs.AuthFlavorUnix}
}

func (*handles) Change(billy.Filesystem) billy.Change                        { return unchanged{} }
func (*handles) FSStat(context.Context, billy.Filesystem, *nfs.FSStat) error { return nil }
func (*handles) InvalidateHandle(billy.Filesystem, []byte) error             { return nil }
func (*handles) HandleLimit() int                                            { return 1 << 20 }
func (*handles) ToHandle(filesystem billy.Filesystem, names []string) []byte {
	handle := strings.Join(append([]string{filesystem.(*folder).share}, names...), "\x00")
	return []byte(handle[:min(len(handle), maxHandle)])
}

func (handles *handles) FromHandle(handle []byte) (billy.Filesystem, []string, error) {
	names := strings.Split(string(handle), "\x00")
	if _, refusal := handles.server.mount(names[0], false); refusal == "MNT3ERR_NOENT" {
		return nil, nil, fs.ErrNotExist
	}
	return &folder{handles.server, names[0]}, names[1:], nil
}

// unchanged ignores owners, permissions and times, which the stand-in does not keep.
type unchanged struct{}

func (unchanged) Chmod(string, os.FileMode) error            { return nil }
func (unchanged) Lchown(string, int, int) error              { return nil }
func (unchanged) Chown(string, int, int) error               { return nil }
func (unchanged) Chtimes(string, time.Time, time.Time) error { return nil }

// folder is the top of a share, which has files and nothing else.
type folder struct {
	server *Server
	share  string
}

func (folder *folder) export(writes bool) (*Export, error) {
	export, refusal := folder.server.mount(folder.share, writes)
	if refusal != "" {
		return nil, fs.ErrPermission
	}
	return export, nil
}

func (folder *folder) Create(name string) (billy.File, error) {
	return folder.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0)
}

func (folder *folder) Open(name string) (billy.File, error) {
	return folder.OpenFile(name, os.O_RDONLY, 0)
}

func (folder *folder) OpenFile(name string, flag int, _ os.FileMode) (billy.File, error) {
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	export, err := folder.export(writes)
	if err != nil {
		return nil, err
	}
	opened := &file{folder: folder, name: name, changed: flag&os.O_CREATE != 0}
	if flag&os.O_TRUNC == 0 {
		opened.content, err = folder.server.get(export, name)
	}
	return opened, err
}

func (folder *folder) Stat(name string) (os.FileInfo, error) {
	export, err := folder.export(false)
	if err != nil || name == "" {
		return entry{path.Base(folder.share), 0, folder.server.started, true}, err
	}
	content, err := folder.server.get(export, name)
	return entry{name, int64(len(content)), folder.server.started, false}, err
}

func (folder *folder) Lstat(name string) (os.FileInfo, error) { return folder.Stat(name) }

func (folder *folder) ReadDir(string) ([]os.FileInfo, error) {
	export, err := folder.export(false)
	if err != nil {
		return nil, err
	}
	var entries []os.FileInfo
	for _, name := range folder.server.names(export) {
		// A file whose content is lost is listed all the same.
		info, _ := folder.Stat(name)
		entries = append(entries, info)
	}
	return entries, nil
}

func (folder *folder) Remove(name string) error {
	export, err := folder.export(true)
	if err != nil {
		return err
	}
	if !slices.Contains(folder.server.names(export), name) {
		return fs.ErrNotExist
	}
	return folder.server.keep(export, name, "")
}

func (*folder) Join(names ...string) string                 { return path.Join(names...) }
func (*folder) Root() string                                { return "" }
func (*folder) Rename(string, string) error                 { return billy.ErrNotSupported }
func (*folder) MkdirAll(string, os.FileMode) error          { return billy.ErrNotSupported }
func (*folder) Symlink(string, string) error                { return billy.ErrNotSupported }
func (*folder) Readlink(string) (string, error)             { return "", billy.ErrNotSupported }
func (*folder) TempFile(string, string) (billy.File, error) { return nil, billy.ErrNotSupported }
func (*folder) Chroot(string) (billy.Filesystem, error)     { return nil, billy.ErrNotSupported }

// file is open for one request; what it has changed is kept when it is closed.
type file struct {
	folder  *folder
	name    string
	content []byte
	offset  int64
	changed bool
}

func (file *file) Read(target []byte) (int, error) {
	count, err := file.ReadAt(target, file.offset)
	file.offset += int64(count)
	return count, err
}

func (file *file) ReadAt(target []byte, offset int64) (int, error) {
	return bytes.NewReader(file.content).ReadAt(target, offset)
}

func (file *file) Write(part []byte) (int, error) {
	end := file.offset + int64(len(part))
	if err := file.Truncate(max(end, int64(len(file.content)))); err != nil {
		return 0, err
	}
	copy(file.content[file.offset:], part)
	file.offset = end
	return len(part), nil
}

func (file *file) Truncate(size int64) error {
	content := make([]byte, size)
	copy(content, file.content)
	file.content, file.changed = content, true
	return nil
}

func (file *file) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, billy.ErrNotSupported
	}
	file.offset = offset
	return offset, nil
}

func (file *file) Close() error {
	if !file.changed {
		return nil
	}
	export, err := file.folder.export(true)
	if err != nil {
		return err
	}
	written, err := file.folder.server.put(export, file.name, file.content)
	if err == nil && !written.succeeded() {
		err = errors.New("S3 refused it")
	}
	return err
}

func (file *file) Name() string { return file.name }
func (*file) Lock() error       { return nil }
func (*file) Unlock() error     { return nil }

// entry describes a file, or the top of a share.
type entry struct {
	name     string
	size     int64
	modified time.Time
	isFolder bool
}

func (entry entry) Name() string       { return entry.name }
func (entry entry) Size() int64        { return entry.size }
func (entry entry) ModTime() time.Time { return entry.modified }
func (entry entry) IsDir() bool        { return entry.isFolder }
func (entry) Sys() any                 { return nil }
func (entry entry) Mode() fs.FileMode {
	if entry.isFolder {
		return fs.ModeDir | 0o777
	}
	return 0o644
}
