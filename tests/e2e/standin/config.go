package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// configFile is where the server finds its file in a pod.
const configFile = "/config/config.yaml"

// root is a folder that stands for / when the program runs outside of a container; there the ports are others, too.
var root = os.Getenv("STANDIN_ROOT")

// Config is what both servers read of config.yaml. The legacy one demands each key: here, without one, a default of the
// real server might hide that the operator forgot it.
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

// Settings are the values that the server works with, with its defaults for what the file leaves out.
type Settings struct {
	Database                        string
	Host, MetricsHost               string
	Port, MetricsPort               int
	Metrics                         bool
	AccessDuration, RefreshDuration time.Duration
}

// currentKeys are the keys of the current server; a name with a star has everything below it.
var currentKeys = []string{
	"logging.level", "logging.format", "logging.output", "logging.rotation.*", "shutdown_timeout", "database.type",
	"database.sqlite.path", "database.postgres.*", "controlplane.host", "controlplane.port", "controlplane.read_timeout",
	"controlplane.write_timeout", "controlplane.idle_timeout", "controlplane.jwt.secret", "controlplane.tls.*",
	"controlplane.jwt.access_token_duration", "controlplane.jwt.refresh_token_duration", "controlplane.pprof",
	"controlplane.require_initial_password_change", "admin.username", "admin.email", "admin.password_hash", "kerberos.*",
	"blockstore.local.default_remote_cache_size", "blockstore.local.backpressure_max_wait",
	"blockstore.local.max_log_bytes", "metadata.badger.*", "gc.*", "snapshot.*", "metrics.enabled", "metrics.host",
	"metrics.port", "metrics.path", "metrics.auth", "metrics.token_file", "metrics.tls.*", "identity.machine_sid", "ldap.*",
}

// readSettings reads the arguments, the environment and the file as this server does, or says all that is wrong.
func readSettings(generation Generation) (Settings, error) {
	file, problem := readArguments(generation)
	content, err := os.ReadFile(file)
	if err != nil {
		return Settings{}, errors.Join(problem, err)
	}

	var config Config
	tree := map[string]any{}
	if err := errors.Join(yaml.Unmarshal(content, &config), yaml.Unmarshal(content, &tree)); err != nil {
		return Settings{}, errors.Join(problem, err)
	}

	problems := []error{problem, badEnvironment(generation)}
	if generation == legacy {
		problems = append(problems, missing("config.yaml", reflect.ValueOf(config))...)
		problems = append(problems, unwritable("metadata", "cache", "controlplane"))
	} else if unknown := unknownKeys(tree, ""); len(unknown) > 0 {
		slices.Sort(unknown)
		fmt.Fprintf(os.Stderr, "WARNING: config contains unknown keys (ignored): %s\n", strings.Join(unknown, ", "))
	}
	return settings(generation, tree), errors.Join(problems...)
}

// readArguments returns the path of the file. Without --foreground, the real server goes on in the background and the
// container ends at once.
func readArguments(generation Generation) (string, error) {
	if got, want := strings.Join(os.Args[1:], " "), "start --foreground --config "+configFile; root == "" && got != want {
		if generation == current && !slices.Contains(os.Args, "--foreground") {
			fmt.Println("DittoFS started in the background")
			os.Exit(0)
		}
		return configFile, fmt.Errorf("called with %q instead of %q", got, want)
	}
	flags := flag.NewFlagSet("start", flag.ExitOnError)
	flags.Bool("foreground", false, "")
	file := flags.String("config", configFile, "")
	return *file, flags.Parse(os.Args[2:])
}

// settings takes what the file has, with the defaults of the real server.
func settings(generation Generation, tree map[string]any) Settings {
	result := Settings{
		Database:        text(tree, "/data/controlplane/controlplane.db", "database", "sqlite", "path"),
		Host:            text(tree, "", "controlplane", "host"),
		Port:            number(tree, 8080, "controlplane", "port"),
		MetricsPort:     number(tree, 9090, "metrics", "port"),
		AccessDuration:  duration(tree, 15*time.Minute, "controlplane", "jwt", "access_token_duration"),
		RefreshDuration: duration(tree, 7*24*time.Hour, "controlplane", "jwt", "refresh_token_duration"),
	}
	result.Metrics, _ = value(tree, "metrics", "enabled").(bool)

	// Row "metrics": the legacy server listens on all addresses and knows no other.
	if generation == current {
		result.MetricsHost = text(tree, "127.0.0.1", "metrics", "host")
	}
	return result
}

func value(tree map[string]any, path ...string) any {
	for _, name := range path[:len(path)-1] {
		tree, _ = tree[name].(map[string]any)
	}
	return tree[path[len(path)-1]]
}

func text(tree map[string]any, fallback string, path ...string) string {
	if text, ok := value(tree, path...).(string); ok {
		return text
	}
	return fallback
}

func number(tree map[string]any, fallback int, path ...string) int {
	if number, ok := value(tree, path...).(int); ok {
		return number
	}
	return fallback
}

func duration(tree map[string]any, fallback time.Duration, path ...string) time.Duration {
	duration, err := time.ParseDuration(text(tree, "", path...))
	if err != nil {
		return fallback
	}
	return duration
}

// unknownKeys names what the current server does not know, a section as a whole when it knows nothing in it. Row "unknown
// configuration keys".
func unknownKeys(section map[string]any, prefix string) (unknown []string) {
	for name, value := range section {
		path := prefix + name
		below := func(key string) bool { return strings.HasPrefix(key, path+".") }
		exact := func(key string) bool { return key == path || key == path+".*" }
		if slices.ContainsFunc(currentKeys, exact) {
			continue
		}
		if deeper, ok := value.(map[string]any); ok && slices.ContainsFunc(currentKeys, below) {
			unknown = append(unknown, unknownKeys(deeper, path+".")...)
		} else {
			unknown = append(unknown, path)
		}
	}
	return unknown
}

func badEnvironment(generation Generation) error {
	var problems []error
	demand := func(name string, holds func(string) bool, what string) {
		if !holds(os.Getenv(name)) {
			problems = append(problems, fmt.Errorf("%s must have %s", name, what))
		}
	}
	demand("DITTOFS_CONTROLPLANE_SECRET", func(value string) bool { return len(value) >= 32 }, "32 characters or more")
	if generation == current {
		return errors.Join(problems...)
	}

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
	if root != "" {
		return nil
	}

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

// inside returns where a path of the server is on this machine.
func inside(path string) string {
	return filepath.Join(root, path)
}
