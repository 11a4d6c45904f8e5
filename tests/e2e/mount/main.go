// Command mount does what mount does, and mounts NFS by itself, through FUSE: not every kernel has an NFS client. It takes
// the same options, and ends once the share is mounted; a process in the background serves it until it is unmounted.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// system is what mounts everything else.
const system = "/bin/mount"

// inBackground is set for the process that serves a share.
const inBackground = "DITTOFS_E2E_MOUNT"

func main() {
	request, isNFS := parse(os.Args[1:])
	switch {
	case !isNFS:
		fail(syscall.Exec(system, os.Args, os.Environ()))
	case os.Getenv(inBackground) != "":
		serve(request)
	default:
		startServing()
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mount:", err)
	os.Exit(32)
}

// Request is what `mount -t nfs -o OPTIONS HOST:PATH TARGET` asks for.
type Request struct {
	options            map[string]string
	host, path, target string
}

func parse(arguments []string) (request Request, isNFS bool) {
	var operands []string
	request.options = map[string]string{}
	for index := 0; index < len(arguments); index++ {
		switch argument := arguments[index]; {
		case argument == "-t" && index+1 < len(arguments):
			index++
			isNFS = arguments[index] == "nfs"
		case argument == "-o" && index+1 < len(arguments):
			index++
			for _, option := range strings.Split(arguments[index], ",") {
				name, value, _ := strings.Cut(option, "=")
				request.options[name] = value
			}
		default:
			operands = append(operands, argument)
		}
	}
	if !isNFS || len(operands) != 2 {
		return request, false
	}

	colon := strings.Index(operands[0], ":/")
	if colon < 0 {
		return request, false
	}
	request.host, request.path = strings.Trim(operands[0][:colon], "[]"), operands[0][colon+1:]
	request.target = operands[1]
	return request, true
}

// startServing starts the process in the background, and passes on what is wrong if it ends without having mounted.
func startServing() {
	reader, writer, err := os.Pipe()
	if err != nil {
		fail(err)
	}
	background := exec.Command("/proc/self/exe", os.Args[1:]...)
	background.Env = append(os.Environ(), inBackground+"=1")
	background.ExtraFiles = []*os.File{writer}
	background.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := background.Start(); err != nil {
		fail(err)
	}

	writer.Close()
	if answer, _ := io.ReadAll(reader); string(answer) != "mounted" {
		fail(fmt.Errorf("%s", answer))
	}
}

// serve mounts the share, tells so, and serves it until it is unmounted.
func serve(request Request) {
	answer := os.NewFile(3, "answer")
	server, err := mount(request)
	if err != nil {
		fmt.Fprint(answer, err)
		os.Exit(32)
	}

	fmt.Fprint(answer, "mounted")
	answer.Close()
	server.Wait()
}

func mount(request Request) (*fuse.Server, error) {
	options := request.options
	if options["port"] == "" || options["mountport"] != options["port"] {
		return nil, fmt.Errorf("port and mountport have to be the same, since there is no portmapper")
	}
	if options["vers"] != "3" {
		return nil, fmt.Errorf("only NFS 3 is spoken, not %q", options["vers"])
	}
	share := &Share{net.JoinHostPort(request.host, options["port"]), request.path}
	target, err := share.dial()
	if err != nil {
		return nil, fmt.Errorf("mounting %s:%s failed: %w", request.host, request.path, err)
	}
	target.Close()

	_, readOnly := options["ro"]
	flags := uintptr(syscall.MS_NOSUID | syscall.MS_NODEV)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	nothing := time.Duration(0)
	return fs.Mount(request.target, &node{share: share}, &fs.Options{
		// What another client changes is seen at once.
		EntryTimeout: &nothing,
		AttrTimeout:  &nothing,
		MountOptions: fuse.MountOptions{
			AllowOther:        true,
			FsName:            request.host + ":" + request.path,
			Name:              "nfs",
			DirectMountStrict: true,
			DirectMountFlags:  flags,
		},
	})
}
