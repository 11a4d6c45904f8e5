// Command standin is whichever program it is called as: pause, which holds a pod together; dittofs, which behaves like
// a DittoFS server up to 0.8; dfs, which behaves like one from 0.13 on; or s3, an object store that checks signatures.
// It speaks NFS, but not SMB. What a client would write, a test can also write through the routes /standin.
//
// What the servers do was recorded from real ones: see tests/test_standin.py and the folder recordings.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Generation is a server that exists: the two have different configurations, APIs and databases.
type Generation string

const (
	legacy  Generation = "legacy"
	current Generation = "current"
)

func main() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)

	switch name := filepath.Base(os.Args[0]); name {
	case "pause":
	case "s3":
		serveS3(os.Args[1:])
	case "dfs":
		start(current)
		<-asked
		os.Exit(0)
	case "dittofs":
		start(legacy)
		<-asked
		// Row "end on SIGTERM": an error is how the real one ends, too.
		fail(errors.New("Error: context canceled"))
	default:
		fail(fmt.Errorf("no program is called %q", name))
	}

	<-asked
}

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail(err)
	}
	return listener
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
