// Runs a health check of Argo CD: `argocd-health SCRIPT` reads objects from standard input, one in JSON on each line,
// and writes what the script returns for each of them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// As long as Argo CD lets a script run.
const timeout = time.Second

type health struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: argocd-health SCRIPT")
	}
	script, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}

	input, output := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for input.More() {
		var object map[string]any
		if err := input.Decode(&object); err != nil {
			return err
		}
		if err := output.Encode(judge(string(script), object)); err != nil {
			return err
		}
	}
	return nil
}

func judge(script string, object map[string]any) health {
	state := newState()
	defer state.Close()
	deadline, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	state.SetContext(deadline)

	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return health{Error: err.Error()}
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{Error: "the script returned no table"}
	}
	return health{Status: lua.LVAsString(table.RawGetString("status")), Message: lua.LVAsString(table.RawGetString("message"))}
}

// newState opens only the libraries that Argo CD opens for a script in argocd-cm: there is none for strings, and of `os`
// there are only the clock's functions, for a script that requires it.
func newState() *lua.LState {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, lua.OpenOs},
	} {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}

	clock, all := state.NewTable(), state.GetGlobal(lua.OsLibName).(*lua.LTable)
	for _, name := range []string{"time", "date"} {
		clock.RawSetString(name, all.RawGetString(name))
	}
	state.SetGlobal(lua.OsLibName, lua.LNil)
	loaded := state.GetField(state.Get(lua.RegistryIndex), "_LOADED").(*lua.LTable)
	loaded.RawSetString(lua.OsLibName, clock)
	return state
}

func value(state *lua.LState, raw any) lua.LValue {
	switch raw := raw.(type) {
	case bool:
		return lua.LBool(raw)
	case float64:
		return lua.LNumber(raw)
	case string:
		return lua.LString(raw)
	case []any:
		table := state.NewTable()
		for _, item := range raw {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range raw {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
