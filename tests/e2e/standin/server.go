package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Server is a running DittoFS: its database, and what it has opened since it was started.
type Server struct {
	generation Generation
	settings   Settings
	secret     string
	// environ has the variables AWS_*, which the server reads once.
	environ map[string]string
	started time.Time

	lock     sync.Mutex
	database *Database
	// opened are the folders of metadata stores by name, locked are all that were opened, and running are the shares by name.
	opened  map[string]string
	locked  map[string]bool
	running map[string]*Export
}

// start starts the server and returns; everything that it needs is there, or the program ends.
func start(generation Generation) {
	settings, err := readSettings(generation)
	if err != nil {
		fail(err)
	}

	server := &Server{
		generation: generation,
		settings:   settings,
		secret:     os.Getenv("DITTOFS_CONTROLPLANE_SECRET"),
		environ:    map[string]string{},
		started:    time.Now(),
		database:   openDatabase(generation, settings.Database),
		opened:     map[string]string{},
		locked:     map[string]bool{},
		running:    map[string]*Export{},
	}
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			server.environ[name] = value
		}
	}
	server.enrolAdmin()
	server.enrolAdapters()
	server.openEverything()

	// Whatever the file says, clients reach NFS and SMB here.
	go server.serveNFS(listen(addressOf("NFS", ":12049")))
	go server.serveSMB(listen(addressOf("SMB", ":1445")))
	if settings.Metrics {
		listener := listen(net.JoinHostPort(settings.MetricsHost, fmt.Sprint(settings.MetricsPort)))
		go func() { fail(http.Serve(listener, http.HandlerFunc(server.serveMetrics))) }()
	}
	listener := listen(net.JoinHostPort(settings.Host, fmt.Sprint(settings.Port)))
	go func() { fail(http.Serve(listener, server)) }()
	fmt.Printf("boot %d of the %s server; its database is %s\n", server.database.Boots, generation, server.database.Mark)
}

func addressOf(protocol, usual string) string {
	if other := os.Getenv("STANDIN_" + protocol); other != "" {
		return other
	}
	return usual
}

func (server *Server) serveSMB(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		server.greet(connection, false)
	}
}

// greet tells who connects that it is this port and, for NFS, which shares can be mounted, and hangs up.
func (server *Server) greet(connection net.Conn, exports bool) {
	fmt.Fprintln(connection, connection.LocalAddr())
	if exports {
		server.lock.Lock()
		for _, share := range server.database.Shares {
			fmt.Fprintln(connection, share.Name)
		}
		server.lock.Unlock()
	}
	connection.Close()
}

// Call is a request that has found its route.
type Call struct {
	*http.Request
	// Names are the parts of the path that the route leaves open.
	Names []string
	User  *User
}

// decode reads the body. What is not JSON, or of another type, is what the server calls an invalid body.
func (call *Call) decode(target any) error {
	content, err := io.ReadAll(call.Body)
	if err == nil {
		err = json.Unmarshal(content, target)
	}
	if err != nil {
		return errors.New("Invalid request body")
	}
	return nil
}

// Answer is a status with a body: nil, a text, a Problem, or what becomes JSON.
type Answer struct {
	Status int
	Body   any
}

// Line is an answer of one line in plain text.
type Line string

// Problem is an error as a handler reports it, in the form of RFC 7807.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func ok(body any) Answer      { return Answer{http.StatusOK, body} }
func created(body any) Answer { return Answer{http.StatusCreated, body} }
func noContent() Answer       { return Answer{http.StatusNoContent, nil} }

func problem(status int, detail string) Answer {
	return Answer{status, Problem{"about:blank", http.StatusText(status), status, detail}}
}

func bad(detail string) Answer      { return problem(http.StatusBadRequest, detail) }
func notFound(detail string) Answer { return problem(http.StatusNotFound, detail) }
func conflict(detail string) Answer { return problem(http.StatusConflict, detail) }

var noPage = Answer{http.StatusNotFound, Line("404 page not found")}

// ServeHTTP answers in the three formats of the real servers: section "Errors" of the record.
func (server *Server) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/" {
		http.Redirect(writer, request, "/health", http.StatusTemporaryRedirect)
		return
	}

	answer := server.route(request)
	switch body := answer.Body.(type) {
	case nil:
		// Otherwise net/http would guess a content type.
		writer.Header()["Content-Type"] = nil
		writer.WriteHeader(answer.Status)
	case Line:
		http.Error(writer, string(body), answer.Status)
	case []byte:
		writer.WriteHeader(answer.Status)
		writer.Write(body)
	case Problem:
		writer.Header().Set("Content-Type", "application/problem+json")
		writer.WriteHeader(answer.Status)
		json.NewEncoder(writer).Encode(body)
	default:
		writeJSON(writer, answer.Status, body)
	}
}

func writeJSON(writer http.ResponseWriter, status int, body any) {
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(status)
	json.NewEncoder(writer).Encode(body)
}

// Route is a method and a path whose stars stand for one part each. A nil handler is for the other server.
type Route struct {
	method, path string
	access       Level
	handler      func(*Server, *Call) Answer
}

// Level is what a route demands of who calls it.
type Level int

const (
	everybody Level = iota
	account         // also one that has to change its password
	admin
)

func (server *Server) route(request *http.Request) Answer {
	parts := strings.Split(request.URL.EscapedPath(), "/")
	isPath := false
	for _, route := range server.routes() {
		names, ok := matches(strings.Split(route.path, "/"), parts)
		if !ok {
			continue
		}
		isPath = true
		if route.method != request.Method {
			continue
		}

		call := &Call{Request: request, Names: names}
		if refusal := server.refuse(call, route.access); refusal != nil {
			return *refusal
		}
		return route.handler(server, call)
	}

	if isPath {
		return Answer{http.StatusMethodNotAllowed, nil}
	}
	return noPage
}

// matches compares the escaped parts of a path: an escaped slash is not one that separates.
func matches(pattern, parts []string) (names []string, ok bool) {
	if len(pattern) != len(parts) {
		return nil, false
	}
	for index, part := range parts {
		if pattern[index] != "*" && pattern[index] != part {
			return nil, false
		}
		if pattern[index] == "*" {
			name, err := url.PathUnescape(part)
			if err != nil || name == "" {
				return nil, false
			}
			names = append(names, name)
		}
	}
	return names, true
}
