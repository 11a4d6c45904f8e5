// Command standin is pause or dittofs, whichever name it is called by. As dittofs it demands everything that the real
// server needs, and serves only then: a pod that gets Ready with it has all of it. It stores no files.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

const (
	configFile = "/config/config.yaml"
	usersFile  = "/data/controlplane/users"
)

// Config is what the real server reads of config.yaml; a pointer is nil when the file does not have the key.
type Config struct {
	Logging *struct {
		Level, Format, Output *string
	}
	ShutdownTimeout *string `yaml:"shutdown_timeout"`
	Database        *struct {
		Type *string
	}
	ControlPlane *struct {
		Host *string
		Port *int
		JWT  *struct {
			AccessTokenDuration  *string `yaml:"access_token_duration"`
			RefreshTokenDuration *string `yaml:"refresh_token_duration"`
		}
	} `yaml:"controlplane"`
	Cache *struct {
		Path, Size *string
	}
	Metrics *struct {
		Enabled *bool
		Port    *int
	}
}

func main() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	if filepath.Base(os.Args[0]) == "pause" {
		<-asked
		return
	}
	config, problems := readConfig()
	problems = append(problems, badArguments(), badEnvironment(), unwritable("metadata", "cache", "controlplane"))
	if err := errors.Join(problems...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	serve(config)
	<-asked
}

func badArguments() error {
	if got, want := strings.Join(os.Args[1:], " "), "start --foreground --config "+configFile; got != want {
		return fmt.Errorf("called with %q instead of %q", got, want)
	}
	return nil
}

func badEnvironment() error {
	var problems []error
	demand := func(name string, holds func(string) bool, what string) {
		if !holds(os.Getenv(name)) {
			problems = append(problems, fmt.Errorf("%s must have %s", name, what))
		}
	}
	demand("DITTOFS_CONTROLPLANE_SECRET", func(value string) bool { return len(value) >= 32 }, "32 characters or more")
	demand("DITTOFS_ADMIN_INITIAL_PASSWORD", func(value string) bool { return len(value) >= 8 && len(value) <= 72 },
		"8 to 72 characters")
	if os.Getenv("AWS_ACCESS_KEY_ID")+os.Getenv("AWS_SECRET_ACCESS_KEY") != "" {
		given := func(value string) bool { return value != "" }
		demand("AWS_ACCESS_KEY_ID", given, "a value, as its other half has")
		demand("AWS_SECRET_ACCESS_KEY", given, "a value, as its other half has")
	}
	return errors.Join(problems...)
}

// unwritable also demands that each folder is on a volume: what the image's own file system holds is lost with the pod.
func unwritable(folders ...string) error {
	var problems []error
	for _, name := range folders {
		folder := filepath.Join("/data", name)
		if !isMount(folder) {
			problems = append(problems, fmt.Errorf("%s is on no volume", folder))
		} else if file, err := os.CreateTemp(folder, "written-"); err != nil {
			problems = append(problems, err)
		} else {
			problems = append(problems, file.Close(), os.Remove(file.Name()))
		}
	}
	return errors.Join(problems...)
}

func isMount(folder string) bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(mounts), " "+folder+" ")
}

func readConfig() (Config, []error) {
	var config Config
	content, err := os.ReadFile(configFile)
	if err == nil {
		err = yaml.Unmarshal(content, &config)
	}
	if err != nil {
		return config, []error{err}
	}
	return config, missing("config.yaml", reflect.ValueOf(config))
}

// missing is an error for each key that the file does not have.
func missing(path string, section reflect.Value) (problems []error) {
	for i := range section.NumField() {
		name, field := path+": "+section.Type().Field(i).Name, section.Field(i)
		if field.IsNil() {
			problems = append(problems, fmt.Errorf("%s is missing", name))
		} else if field.Elem().Kind() == reflect.Struct {
			problems = append(problems, missing(name, field.Elem())...)
		}
	}
	return problems
}

// serve listens where the real server does: for NFS and SMB whatever the file says, for the API where it says.
func serve(config Config) {
	user, boots := enrol()
	fmt.Printf("boot %d; the users are those of %s\n", boots, user)
	for _, port := range []int{12049, 1445} {
		listener := listen("", port)
		go greet(listener)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /standin", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "boots: %d\nusers: %s\n", boots, user)
		for _, variable := range os.Environ() {
			if strings.HasPrefix(variable, "AWS_") {
				fmt.Fprintln(answer, strings.Replace(variable, "=", ": ", 1))
			}
		}
	})
	listener := listen(*config.ControlPlane.Host, *config.ControlPlane.Port)
	go func() { fail(http.Serve(listener, mux)) }()
}

// enrol adds a boot to the users' file, which the first boot makes: with another volume they would be others.
func enrol() (user string, boots int) {
	content, err := os.ReadFile(usersFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fail(err)
	}
	if err != nil {
		content = []byte(rand.Text() + "\n")
	}
	content = append(content, "boot\n"...)
	if err := os.WriteFile(usersFile, content, 0o600); err != nil {
		fail(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return lines[0], len(lines) - 1
}

func listen(host string, port int) net.Listener {
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		fail(err)
	}
	return listener
}

// greet tells who connects that it is this port, and hangs up.
func greet(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		fmt.Fprintln(connection, listener.Addr())
		connection.Close()
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
