package main

import (
	"errors"
	"time"

	"github.com/willscott/go-nfs-client/nfs"
	"github.com/willscott/go-nfs-client/nfs/rpc"
)

// Share is what is mounted, and where its server is. Each use has a connection of its own, so that it does not matter how a
// connection ends when the server restarts.
type Share struct{ address, path string }

const (
	// dialing takes a moment, or for ever when the pod behind a Service is gone.
	dialing = 2 * time.Second
	// patience is how long a process that uses the share waits for the server, which a mount without "soft" does as well.
	patience = 2 * time.Minute
	pause    = 200 * time.Millisecond
)

// use calls back with the share, once the server answers.
func (share *Share) use(callback func(*nfs.Target) error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		target, err := share.dial()
		if err == nil {
			defer target.Close()
			return callback(target)
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (share *Share) dial() (*nfs.Target, error) {
	type answer struct {
		target *nfs.Target
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		client, err := rpc.DialTCP("tcp", share.address, false)
		if err != nil {
			answers <- answer{nil, err}
			return
		}
		target, err := (&nfs.Mount{Client: client}).Mount(share.path, rpc.NewAuthUnix("node1", 0, 0).Auth())
		if err != nil {
			client.Close()
		}
		answers <- answer{target, err}
	}()

	select {
	case answer := <-answers:
		return answer.target, answer.err
	case <-time.After(dialing):
		return nil, errors.New("no answer from " + share.address)
	}
}
