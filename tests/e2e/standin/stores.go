package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// masked stands for a secret in the answers of the current server; sent back, it keeps the secret.
const masked = "********"

// openEverything opens at boot what the database names: stores that do not open are as absent as on the real server.
func (server *Server) openEverything() {
	for _, store := range server.database.Metadata {
		if err := server.openMetadata(store); err != nil {
			fmt.Fprintf(os.Stderr, "failed to load metadata store %q: %s\n", store.Name, err)
		}
	}
	for _, share := range server.database.Shares {
		if err := server.run(share); err != nil {
			fmt.Fprintf(os.Stderr, "failed to load share %q: %s\n", share.Name, err)
		}
	}
}

// parse returns the configuration of a store; empty is one without keys.
func parse(config string) (map[string]any, error) {
	tree := map[string]any{}
	if config == "" {
		return tree, nil
	}
	return tree, json.Unmarshal([]byte(config), &tree)
}

func textOf(tree map[string]any, name string) string {
	text, _ := tree[name].(string)
	return text
}

// openMetadata opens the folder of a store, which one store can hold at a time.
func (server *Server) openMetadata(store *Store) error {
	tree, err := parse(store.Config)
	if err != nil {
		return fmt.Errorf("failed to get config: %w", err)
	}
	switch store.Type {
	case "memory":
		server.opened[store.Name] = ""
		return nil
	case "postgres":
		return errors.New("failed to create connection pool: failed to ping PostgreSQL: this is a stand-in")
	case "badger":
	default:
		return fmt.Errorf("unsupported metadata store type: %s", store.Type)
	}

	path := textOf(tree, "db_path")
	if server.generation == current && textOf(tree, "path") != "" {
		path = textOf(tree, "path")
	}
	if path == "" {
		return fmt.Errorf("badger metadata store requires %s as string", server.pathKey())
	}
	if server.locked[path] {
		return server.lockedFolder(path)
	}
	if err := makeFolder(path); err != nil {
		return fmt.Errorf("failed to open BadgerDB at %[1]s: Invalid Dir: %[1]q error: stat %[1]s: %[2]w", path, reason(err))
	}
	server.opened[store.Name], server.locked[path] = path, true
	return nil
}

func (server *Server) pathKey() string {
	if server.generation == legacy {
		return "db_path"
	}
	return "path"
}

func (server *Server) lockedFolder(path string) error {
	if server.generation == legacy {
		return fmt.Errorf("failed to open BadgerDB at %[1]s: Cannot acquire directory lock on %[1]q.  Another process is "+
			"using this Badger database. error: resource temporarily unavailable", path)
	}
	return fmt.Errorf("metadata store at %[1]s is locked by another process — a DittoFS server is almost certainly already "+
		"running against this data directory. Stop it ('dfs stop', or kill the running dfs) before starting another, or "+
		"point this share at a different db_path: Cannot acquire directory lock on %[1]q.  Another process is using this "+
		"Badger database. error: resource temporarily unavailable", path)
}

// makeFolder creates a folder of the server: on a read-only root file system only a volume has room for it.
func makeFolder(path string) error {
	folder := inside(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	mark, err := os.CreateTemp(folder, "written-")
	if err != nil {
		return err
	}
	return errors.Join(mark.Close(), os.Remove(mark.Name()))
}

func (server *Server) describeMetadata(store *Store) map[string]any {
	described := server.describeStore(store)
	if server.generation == current {
		described["status"] = map[string]any{"status": "healthy", "checked_at": time.Now()}
	}
	return described
}

// describeStore: the legacy server answers the configuration as it got it, with the secret; the current one masks that.
func (server *Server) describeStore(store *Store) map[string]any {
	described := map[string]any{"id": store.ID, "name": store.Name, "type": store.Type, "created_at": store.Created}
	if server.generation == legacy {
		if store.Config != "" {
			described["config"] = store.Config
		}
		return described
	}

	if store.Kind != "" {
		described["kind"] = store.Kind
	}
	if tree, _ := parse(store.Config); len(tree) > 0 {
		if _, ok := tree["secret_access_key"]; ok {
			tree["secret_access_key"] = masked
		}
		described["config"] = tree
	}
	return described
}

// StoreBody is the request for a store; what is nil stays.
type StoreBody struct {
	Name, Type string
	Config     *string
}

// decodeStore reads the request; the configuration is a string that holds JSON.
func decodeStore(call *Call) (StoreBody, error) {
	var body StoreBody
	err := call.decode(&body)
	return body, err
}

func (body StoreBody) store(kind string) *Store {
	store := &Store{ID: newID(), Kind: kind, Name: body.Name, Type: body.Type, Created: time.Now()}
	if body.Config != nil {
		store.Config = *body.Config
	}
	return store
}

func (server *Server) listMetadata(*Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	described := []any{}
	for _, store := range server.database.Metadata {
		described = append(described, server.describeMetadata(store))
	}
	return ok(described)
}

// createMetadata opens the store first: what does not open is not kept, and the folder of a store of the same name is
// locked before its name is taken.
func (server *Server) createMetadata(call *Call) Answer {
	body, err := decodeStore(call)
	switch {
	case err != nil:
		return bad(err.Error())
	case body.Name == "":
		return bad("Store name is required")
	case body.Type == "":
		return bad("Store type is required")
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	store := body.store("")
	if body.Type == "memory" && server.database.metadataStore(body.Name) != nil {
		return conflict("Metadata store already exists")
	}
	if err := server.openMetadata(store); err != nil {
		return bad("Failed to create metadata store: " + err.Error())
	}
	if server.database.metadataStore(body.Name) != nil {
		return conflict("Metadata store already exists")
	}
	server.database.Metadata = append(server.database.Metadata, store)
	server.database.save()
	return created(server.describeMetadata(store))
}

// withMetadata calls back with the store that the path names.
func (server *Server) withMetadata(call *Call, answer func(*Store) Answer) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	if store := server.database.metadataStore(call.Names[0]); store != nil {
		return answer(store)
	}
	return notFound("Metadata store not found")
}

func (server *Server) getMetadata(call *Call) Answer {
	return server.withMetadata(call, func(store *Store) Answer { return ok(server.describeMetadata(store)) })
}

// updateMetadata opens nothing: that happens at the next boot.
func (server *Server) updateMetadata(call *Call) Answer {
	body, err := decodeStore(call)
	if err != nil {
		return bad(err.Error())
	}
	return server.withMetadata(call, func(store *Store) Answer {
		store.change(body)
		server.database.save()
		return ok(server.describeMetadata(store))
	})
}

func (store *Store) change(body StoreBody) {
	if body.Type != "" {
		store.Type = body.Type
	}
	if body.Config != nil {
		store.Config = *body.Config
	}
}

func (server *Server) deleteMetadata(call *Call) Answer {
	return server.withMetadata(call, func(store *Store) Answer {
		if server.isUsed(store) {
			return conflict("Cannot delete metadata store: it is in use by one or more shares")
		}
		// Both servers go on counting it until they restart.
		server.database.Metadata = without(server.database.Metadata, store)
		server.database.save()
		return noContent()
	})
}

func (server *Server) getMetadataHealth(call *Call) Answer {
	return server.withMetadata(call, func(*Store) Answer {
		return ok(map[string]any{
			"healthy": true, "latency_ms": 0, "checked_at": time.Now(), "details": "store is healthy"})
	})
}

func (server *Server) getMetadataStatus(call *Call) Answer {
	return server.withMetadata(call, func(store *Store) Answer { return ok(server.describeMetadata(store)["status"]) })
}

func (server *Server) isUsed(store *Store) bool {
	return slices.ContainsFunc(server.database.Shares, func(share *Share) bool {
		return slices.Contains([]string{share.Metadata, share.Payload, share.Local, share.Remote}, store.ID)
	})
}

func (server *Server) listPayloads(*Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	described := []any{}
	for _, store := range server.database.Content {
		described = append(described, server.describeStore(store))
	}
	return ok(described)
}

// createPayload: "Nothing is checked": only the name.
func (server *Server) createPayload(call *Call) Answer {
	body, err := decodeStore(call)
	switch {
	case err != nil:
		return bad(err.Error())
	case body.Name == "":
		return bad("Store name is required")
	case body.Type == "":
		return bad("Store type is required")
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	if server.database.contentStore("payload", body.Name) != nil {
		return conflict("Payload store already exists")
	}
	store := body.store("payload")
	server.database.Content = append(server.database.Content, store)
	server.database.save()
	return created(server.describeStore(store))
}

func (server *Server) withPayload(call *Call, answer func(*Store) Answer) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	if store := server.database.contentStore("payload", call.Names[0]); store != nil {
		return answer(store)
	}
	return notFound("Payload store not found")
}

func (server *Server) getPayload(call *Call) Answer {
	return server.withPayload(call, func(store *Store) Answer { return ok(server.describeStore(store)) })
}

// updatePayload: the running server goes on with the old key until it restarts.
func (server *Server) updatePayload(call *Call) Answer {
	body, err := decodeStore(call)
	if err != nil {
		return bad(err.Error())
	}
	return server.withPayload(call, func(store *Store) Answer {
		store.change(body)
		server.database.save()
		return ok(server.describeStore(store))
	})
}

func (server *Server) deletePayload(call *Call) Answer {
	return server.withPayload(call, func(store *Store) Answer {
		if server.isUsed(store) {
			return conflict("Cannot delete payload store: it is in use by one or more shares")
		}
		server.database.Content = without(server.database.Content, store)
		server.database.save()
		return noContent()
	})
}

// Check is what the current server finds when it looks at a store, which it does for every answer.
type Check struct {
	Status  string    `json:"status"`
	Message string    `json:"message,omitempty"`
	Checked time.Time `json:"checked_at"`
	Latency int64     `json:"latency_ms,omitempty"`
}

// checkBlock is "a live check with the config just sent"; it takes 5 s when nothing listens at the endpoint.
func checkBlock(store Store) Check {
	tree, _ := parse(store.Config)
	check := Check{Status: "healthy", Checked: time.Now()}
	switch store.Type {
	case "fs":
		check.Message = "path accessible and writable"
	case "memory":
		check.Message = "in-memory store is always healthy"
	case "s3":
		bucket := bucketOf(tree)
		check.Message = fmt.Sprintf("S3 bucket accessible: %s (region: %s)", bucket.Name, bucket.Region)
		if bucket.check() != nil {
			check.Status, check.Message = "unhealthy", "S3 connectivity check failed"
		}
		check.Latency = max(1, time.Since(check.Checked).Milliseconds())
	}
	return check
}

// bucketOf reads the configuration of a remote store. Row "AWS_REGION has no effect": the store's region counts.
func bucketOf(tree map[string]any) Bucket {
	bucket := Bucket{
		Name: textOf(tree, "bucket"), Endpoint: textOf(tree, "endpoint"), Region: textOf(tree, "region"),
		Prefix: textOf(tree, "prefix"), KeyID: textOf(tree, "access_key_id"), Secret: textOf(tree, "secret_access_key"),
	}
	if bucket.Region == "" {
		bucket.Region = "us-east-1"
	}
	return bucket
}

func (server *Server) describeBlock(store Store) map[string]any {
	described := server.describeStore(&store)
	described["status"] = checkBlock(store)
	return described
}

func badKind(kind string) *Answer {
	if kind == "local" || kind == "remote" {
		return nil
	}
	answer := bad("Invalid block store kind: must be 'local' or 'remote'")
	return &answer
}

// listBlocks checks every remote live: one dead endpoint makes the list take 5 s.
func (server *Server) listBlocks(call *Call) Answer {
	kind := call.Names[0]
	if answer := badKind(kind); answer != nil {
		return *answer
	}

	server.lock.Lock()
	var stores []Store
	for _, store := range server.database.Content {
		if store.Kind == kind {
			stores = append(stores, *store)
		}
	}
	server.lock.Unlock()

	described := []any{}
	for _, store := range stores {
		described = append(described, server.describeBlock(store))
	}
	return ok(described)
}

func (server *Server) createBlock(call *Call) Answer {
	kind := call.Names[0]
	if answer := badKind(kind); answer != nil {
		return *answer
	}
	body, err := decodeStore(call)
	switch {
	case err != nil:
		return bad(err.Error())
	case body.Name == "":
		return bad("Store name is required")
	case body.Type == "":
		return bad("Store type is required")
	}
	store := body.store(kind)
	if err := validateBlock(store); err != nil {
		return bad(err.Error())
	}

	server.lock.Lock()
	if server.database.contentStore(kind, body.Name) != nil {
		server.lock.Unlock()
		return conflict("Block store already exists")
	}
	server.database.Content = append(server.database.Content, store)
	server.database.save()
	copied := *store
	server.lock.Unlock()

	return created(server.describeBlock(copied))
}

// validateBlock: table of "400 Invalid block store config". Whether the key is good is no question of this.
func validateBlock(store *Store) error {
	types := map[string][]string{"local": {"fs", "memory"}, "remote": {"s3", "memory"}}
	if !slices.Contains(types[store.Kind], store.Type) {
		return fmt.Errorf("Store type '%s' is not valid for kind '%s'", store.Type, store.Kind)
	}
	tree, err := parse(store.Config)
	if err != nil {
		return fmt.Errorf("Invalid block store config: failed to get config: %w", err)
	}

	switch store.Type {
	case "fs":
		path := textOf(tree, "path")
		if path == "" {
			return errors.New("Invalid block store config: fs local block store requires path in config")
		}
		if !filepath.IsAbs(path) {
			return fmt.Errorf("Invalid block store config: fs local block store path must be absolute, got %q", path)
		}
		if err := makeFolder(path); err != nil {
			return fmt.Errorf("Invalid block store config: failed to create block store directory %q: mkdir %s: %w",
				path, filepath.Dir(path), reason(err))
		}
	case "s3":
		for _, key := range []string{"bucket", "access_key_id", "secret_access_key"} {
			if textOf(tree, key) == "" {
				return fmt.Errorf("Invalid block store config: s3 remote block store requires %s in config", key)
			}
		}
		if private, _ := tree["allow_private_endpoint"].(bool); !private {
			if err := demandPublic(textOf(tree, "endpoint")); err != nil {
				return fmt.Errorf("Invalid block store config: s3 block store: unsafe endpoint: %w", err)
			}
		}
	}
	return nil
}

// reason strips what names the place of the state outside of a container.
func reason(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

func demandPublic(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	target, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	addresses, err := net.LookupIP(target.Hostname())
	if err != nil {
		return fmt.Errorf("resolve host %q: %w", target.Hostname(), err)
	}
	for _, address := range addresses {
		if address.IsPrivate() || address.IsLoopback() || address.IsLinkLocalUnicast() {
			return fmt.Errorf("host %q resolves to private/internal address %s (set allow_private_endpoint=true to permit)",
				target.Hostname(), address)
		}
	}
	return nil
}

// block returns a copy of the store that the path names, which may be checked without the lock.
func (server *Server) block(call *Call) (Store, *Answer) {
	if answer := badKind(call.Names[0]); answer != nil {
		return Store{}, answer
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	if store := server.database.contentStore(call.Names[0], call.Names[1]); store != nil {
		return *store, nil
	}
	answer := notFound("Block store not found")
	return Store{}, &answer
}

func (server *Server) getBlock(call *Call) Answer {
	store, answer := server.block(call)
	if answer != nil {
		return *answer
	}
	return ok(server.describeBlock(store))
}

// updateBlock replaces the whole configuration, saves it whether the key is good or not, and says which. A running share
// keeps the old client.
func (server *Server) updateBlock(call *Call) Answer {
	store, answer := server.block(call)
	if answer != nil {
		return *answer
	}
	body, err := decodeStore(call)
	if err != nil {
		return bad(err.Error())
	}
	before := store.Config
	store.change(body)
	store.Config = keepSecret(before, store.Config)
	if err := validateBlock(&store); err != nil {
		return bad(err.Error())
	}

	server.lock.Lock()
	if live := server.database.contentStore(store.Kind, store.Name); live != nil {
		*live = store
	}
	server.database.save()
	server.lock.Unlock()

	return ok(server.describeBlock(store))
}

func keepSecret(before, after string) string {
	stored, _ := parse(before)
	tree, err := parse(after)
	if err != nil || tree["secret_access_key"] != masked {
		return after
	}
	tree["secret_access_key"] = stored["secret_access_key"]
	content, _ := json.Marshal(tree)
	return string(content)
}

func (server *Server) deleteBlock(call *Call) Answer {
	store, answer := server.block(call)
	if answer != nil {
		return *answer
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	if server.isUsed(&store) {
		return conflict("Cannot delete block store: it is in use by one or more shares")
	}
	server.database.Content = without(server.database.Content, server.database.contentStore(store.Kind, store.Name))
	server.database.save()
	return noContent()
}

func (server *Server) getBlockHealth(call *Call) Answer {
	store, answer := server.block(call)
	if answer != nil {
		return *answer
	}
	check := checkBlock(store)
	return ok(map[string]any{"healthy": check.Status == "healthy", "latency_ms": check.Latency,
		"checked_at": check.Checked, "details": check.Message})
}

func (server *Server) getBlockStatus(call *Call) Answer {
	store, answer := server.block(call)
	if answer != nil {
		return *answer
	}
	return ok(checkBlock(store))
}

// apiErrorStatus is the status that S3 answered, or 0 when nobody did.
func apiErrorStatus(err error) int {
	var refused Refused
	if err == nil {
		return http.StatusOK
	}
	if errors.As(err, &refused) {
		return refused.Status
	}
	return 0
}

func trimSlash(text string) string { return strings.TrimPrefix(text, "/") }
