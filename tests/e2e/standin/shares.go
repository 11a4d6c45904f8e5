package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Export is a share that clients can mount: what it was opened with stays until the server restarts.
type Export struct {
	name string
	// metadata and local are folders; metadata is empty for a store in memory.
	metadata, local string
	bucket          *Bucket
	// files are the objects by the names of files, and memory has the objects of a store without a folder.
	files  map[string]string
	memory map[string][]byte
}

// run opens a share with what its stores say now.
func (server *Server) run(share *Share) error {
	metadata := server.database.metadataStore(share.Metadata)
	if metadata == nil {
		return errors.New("its metadata store is gone")
	}
	folder, opened := server.opened[metadata.Name]
	if !opened {
		return fmt.Errorf("metadata store %q is not open", metadata.Name)
	}
	if server.generation == legacy && len(server.database.Content) == 0 {
		return errors.New("failed to initialize payload service: no payload stores configured - add a payload store first")
	}
	export := &Export{name: share.Name, metadata: folder, files: map[string]string{}, memory: map[string][]byte{}}
	server.openContent(export, share)

	content, err := os.ReadFile(export.index())
	if folder != "" && err == nil {
		err = json.Unmarshal(content, &export.files)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	server.running[share.Name] = export
	return nil
}

// openContent: on the legacy server "the first store created serves every share", with what its configuration lacks from
// the environment of the start; on the current one each share has its stores, and the environment does not count.
func (server *Server) openContent(export *Export, share *Share) {
	if server.generation == legacy {
		store := server.database.Content[0]
		tree, _ := parse(store.Config)
		switch store.Type {
		case "s3":
			export.bucket = server.legacyBucket(tree)
		case "filesystem":
			export.local = textOf(tree, "path")
		}
		return
	}

	if local := server.database.contentStore("local", share.Local); local != nil {
		tree, _ := parse(local.Config)
		export.local = textOf(tree, "path")
	}
	if remote := server.database.contentStore("remote", share.Remote); remote != nil && remote.Type == "s3" {
		tree, _ := parse(remote.Config)
		bucket := bucketOf(tree)
		if bucket.Endpoint == "" {
			// Row "S3 credentials": of the variables AWS_*, this one still counts.
			bucket.Endpoint = server.environ["AWS_ENDPOINT_URL"]
		}
		export.bucket = &bucket
	}
}

// legacyBucket: row "an endpoint given by host name in the environment is addressed in virtual-host style, one in the
// store's record in path style".
func (server *Server) legacyBucket(tree map[string]any) *Bucket {
	bucket := bucketOf(tree)
	if bucket.KeyID == "" {
		bucket.KeyID, bucket.Secret = server.environ["AWS_ACCESS_KEY_ID"], server.environ["AWS_SECRET_ACCESS_KEY"]
		bucket.Token = server.environ["AWS_SESSION_TOKEN"]
	}
	if bucket.Endpoint == "" {
		bucket.Endpoint = server.environ["AWS_ENDPOINT_URL"]
		target, err := url.Parse(bucket.Endpoint)
		bucket.VirtualHost = err == nil && net.ParseIP(target.Hostname()) == nil
	}
	return &bucket
}

func (export *Export) check() error {
	if export.bucket == nil {
		return nil
	}
	return export.bucket.check()
}

func (server *Server) exports() map[string]*Export {
	server.lock.Lock()
	defer server.lock.Unlock()
	return maps.Clone(server.running)
}

// index is the file that has the names of a share's files, in the folder of its metadata store.
func (export *Export) index() string {
	return filepath.Join(inside(export.metadata), "share-"+url.PathEscape(export.name)+".json")
}

// normalized: "media" and "/media" are one share.
func normalized(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return "/" + name
}

var permissions = []string{"none", "read", "read-write", "admin"}

// describeShare answers what the database has: its keys are not those of the request.
func (server *Server) describeShare(share *Share) map[string]any {
	described := map[string]any{
		"id": share.ID, "name": share.Name, "metadata_store_id": share.Metadata, "read_only": share.ReadOnly,
		"default_permission": share.DefaultPermission, "created_at": share.Created, "updated_at": share.Updated,
	}
	if server.generation == legacy {
		described["payload_store_id"] = share.Payload
		return described
	}

	described["local_block_store_id"], described["remote_block_store_id"] = share.Local, nil
	if share.Remote != "" {
		described["remote_block_store_id"] = share.Remote
	}
	described["enabled"], described["retention_policy"] = !share.Disabled, "lru"
	described["acl_flag_inherited_canonicalization"] = true
	for _, name := range []string{"encrypt_data", "access_based_enumeration", "change_notify_disabled", "streams_disabled",
		"continuous_availability", "allow_mfsymlink", "trash_enabled", "trash_restrict_to_admin"} {
		described[name] = false
	}
	for _, name := range []string{
		"used_bytes", "physical_bytes", "usage_percent", "trash_retention_days", "trash_max_bytes"} {
		described[name] = 0
	}
	return described
}

// checkedShare adds what the current server finds when it looks at the share, without the lock: S3 may be slow.
func (server *Server) checkedShare(described map[string]any) map[string]any {
	if server.generation == current {
		described["status"] = server.checkShare(described["name"].(string))
	}
	return described
}

func (server *Server) checkShare(name string) Check {
	check := Check{Status: "healthy", Checked: time.Now()}
	export := server.exports()[name]
	if export == nil {
		check.Status, check.Message = "unhealthy", "share is not loaded"
	} else if err := export.check(); err != nil {
		check.Status, check.Message = "degraded", "block: remote unreachable: "+err.Error()
	}
	check.Latency = max(1, time.Since(check.Checked).Milliseconds())
	return check
}

func (server *Server) listShares(*Call) Answer {
	server.lock.Lock()
	described := []map[string]any{}
	for _, share := range server.database.Shares {
		described = append(described, server.describeShare(share))
	}
	server.lock.Unlock()

	for _, share := range described {
		server.checkedShare(share)
	}
	return ok(described)
}

// ShareBody is the request for a share. On PUT, what is nil stays.
type ShareBody struct {
	Name              string
	Metadata          *string `json:"metadata_store_id"`
	Payload           *string `json:"payload_store_id"`
	Local             *string `json:"local_block_store"`
	LocalID           *string `json:"local_block_store_id"`
	Remote            *string `json:"remote_block_store"`
	RemoteID          *string `json:"remote_block_store_id"`
	ReadOnly          *bool   `json:"read_only"`
	DefaultPermission *string `json:"default_permission"`
}

// createShare validates in the order of the real servers, and serves the share at once.
func (server *Server) createShare(call *Call) Answer {
	var body ShareBody
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}
	if body.Name == "" {
		return bad("Share name is required")
	}

	server.lock.Lock()
	share := &Share{ID: newID(), Name: normalized(body.Name), Created: time.Now(), Permissions: map[string]string{},
		NFS: map[string]any{"squash": "root_to_guest", "allow_auth_sys": true, "require_kerberos": false,
			"min_kerberos_level": "krb5", "netgroup": "", "disable_readdirplus": false}}
	share.Updated = share.Created
	share.DefaultPermission = "none"
	if server.generation == legacy {
		share.DefaultPermission = "read-write"
	}
	if answer := server.fill(share, body, true); answer != nil {
		server.lock.Unlock()
		return *answer
	}
	if server.database.share(body.Name) != nil {
		server.lock.Unlock()
		return conflict("Share already exists")
	}
	server.database.Shares = append(server.database.Shares, share)
	server.database.save()
	err := server.run(share)
	described := server.describeShare(share)
	server.lock.Unlock()

	if err != nil {
		return problem(http.StatusInternalServerError, "Failed to add share to runtime")
	}
	if export := server.exports()[share.Name]; server.generation == current && apiErrorStatus(export.check()) == 0 {
		// Row "S3 down": no answer within 40 s, but the share is made.
		time.Sleep(8 * patience)
	}
	return created(server.checkedShare(described))
}

// part is a content store of a share: what a request calls it, and where its ID goes.
type part struct {
	kind, title  string
	name, target *string
}

// fill puts what the request has into the share, or says what is wrong with it.
func (server *Server) fill(share *Share, body ShareBody, all bool) *Answer {
	refuse := func(text string, names ...any) *Answer {
		answer := bad(fmt.Sprintf(text, names...))
		return &answer
	}
	is := func(text *string) bool { return text != nil && *text != "" }

	if all && !is(body.Metadata) {
		return refuse("Metadata store ID is required")
	}
	if all && server.generation == legacy && !is(body.Payload) {
		return refuse("Payload store ID is required")
	}
	if all && server.generation == current && !is(body.Local) {
		return refuse("Local block store is required")
	}

	if is(body.Metadata) {
		store := server.database.metadataStore(*body.Metadata)
		if store == nil {
			return refuse("Metadata store not found: %s", *body.Metadata)
		}
		share.Metadata = store.ID
	}
	parts := []part{{"payload", "Payload", body.Payload, &share.Payload}}
	if server.generation == legacy && !all {
		parts = nil
	}
	if server.generation == current {
		// On PUT these keys have another name.
		local, remote := body.Local, body.Remote
		if !all {
			local, remote = body.LocalID, body.RemoteID
		}
		parts = []part{
			{"local", "Local block", local, &share.Local}, {"remote", "Remote block", remote, &share.Remote}}
	}
	for _, part := range parts {
		if is(part.name) {
			store := server.database.contentStore(part.kind, *part.name)
			if store == nil {
				return refuse("%s store not found: %s", part.title, *part.name)
			}
			*part.target = store.ID
		}
	}

	if is(body.DefaultPermission) {
		// The legacy server accepts anything.
		if server.generation == current && !slices.Contains(permissions, *body.DefaultPermission) {
			return refuse("Invalid default_permission: %s (want none|read|read-write|admin)", *body.DefaultPermission)
		}
		share.DefaultPermission = *body.DefaultPermission
	}
	if body.ReadOnly != nil {
		share.ReadOnly = *body.ReadOnly
		share.WasReadOnly = share.WasReadOnly || share.ReadOnly
	}
	return nil
}

// withShare calls back with the share that the path names.
func (server *Server) withShare(call *Call, answer func(*Share) Answer) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	if share := server.database.share(call.Names[0]); share != nil {
		return answer(share)
	}
	return notFound("Share not found")
}

// checked completes the answer about one share, after the lock is free.
func (server *Server) checked(answer Answer) Answer {
	if described, ok := answer.Body.(map[string]any); ok {
		answer.Body = server.checkedShare(described)
	}
	return answer
}

func (server *Server) getShare(call *Call) Answer {
	return server.checked(server.withShare(call, func(share *Share) Answer { return ok(server.describeShare(share)) }))
}

func (server *Server) updateShare(call *Call) Answer {
	var body ShareBody
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}
	return server.checked(server.withShare(call, func(share *Share) Answer {
		changed := *share
		if answer := server.fill(&changed, body, false); answer != nil {
			return *answer
		}
		changed.Updated = time.Now()
		*share = changed
		server.database.save()
		described := server.describeShare(share)
		if server.generation == legacy && body.Payload != nil {
			// It answers what it was asked for, whatever that is, and keeps what it has.
			described["payload_store_id"] = *body.Payload
		}
		return ok(described)
	}))
}

// deleteShare keeps the files: the same name made again shows them.
func (server *Server) deleteShare(call *Call) Answer {
	return server.withShare(call, func(share *Share) Answer {
		server.database.Shares = without(server.database.Shares, share)
		delete(server.running, share.Name)
		server.database.save()
		return noContent()
	})
}

func (server *Server) getShareStatus(call *Call) Answer {
	answer := server.withShare(call, func(share *Share) Answer { return ok(share.Name) })
	if name, found := answer.Body.(string); found {
		return ok(server.checkShare(name))
	}
	return answer
}

func (server *Server) disableShare(call *Call) Answer { return server.switchShare(call, true) }
func (server *Server) enableShare(call *Call) Answer  { return server.switchShare(call, false) }

func (server *Server) switchShare(call *Call, disabled bool) Answer {
	return server.checked(server.withShare(call, func(share *Share) Answer {
		share.Disabled = disabled
		server.database.save()
		return ok(server.describeShare(share))
	}))
}

func (server *Server) listPermissions(call *Call) Answer {
	return server.withShare(call, func(share *Share) Answer {
		var listed []any
		for name, level := range share.Permissions {
			listed = append(listed, map[string]any{"type": "user", "name": name, "level": level})
		}
		return ok(listed)
	})
}

func (server *Server) setPermission(call *Call) Answer {
	var body struct{ Level string }
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}
	return server.withShare(call, func(share *Share) Answer {
		if server.database.user(call.Names[1]) == nil {
			return notFound("User not found")
		}
		share.Permissions[call.Names[1]] = body.Level
		server.database.save()
		return noContent()
	})
}

func (server *Server) getNFSConfig(call *Call) Answer {
	return server.withShare(call, func(share *Share) Answer { return ok(maps.Clone(share.NFS)) })
}

var squashes = []string{"none", "root_to_admin", "root_to_guest", "all_to_admin", "all_to_guest"}

// patchNFSConfig takes any part of the options and answers all of them.
func (server *Server) patchNFSConfig(call *Call) Answer {
	change := map[string]any{}
	if err := call.decode(&change); err != nil {
		return bad(err.Error())
	}
	return server.withShare(call, func(share *Share) Answer {
		if squash, ok := change["squash"]; ok && !slices.Contains(squashes, fmt.Sprint(squash)) {
			return bad(fmt.Sprintf("Invalid squash: %v (want %s)", squash, strings.Join(squashes, "|")))
		}
		for name, value := range change {
			if _, known := share.NFS[name]; known || name == "anonymous_uid" || name == "anonymous_gid" {
				share.NFS[name] = value
			}
		}
		server.database.save()
		return ok(maps.Clone(share.NFS))
	})
}

// nfsError: table "Who may write", for a client that is root: the permission of a legacy share does not concern it.
func (server *Server) nfsError(share *Share, writes bool) string {
	if server.generation == legacy {
		return ""
	}
	switch {
	case share.Disabled:
		return "MNT3ERR_ACCES"
	case share.DefaultPermission == "none", share.DefaultPermission == "read" && writes:
		return "NFS3ERR_ACCES"
	case share.WasReadOnly && writes:
		return "NFS3ERR_ROFS"
	}
	return ""
}

// mount returns the share that is served under this name, or the error that an NFS client would get.
func (server *Server) mount(name string, writes bool) (*Export, string) {
	server.lock.Lock()
	defer server.lock.Unlock()

	share, export := server.database.share(name), server.running[normalized(name)]
	if share == nil || export == nil {
		return nil, "MNT3ERR_NOENT"
	}
	return export, server.nfsError(share, writes)
}

// Written is how the content of a file came to where it is kept.
type Written struct {
	KeyID  string `json:"key_id"`
	Object string `json:"object"`
	S3     int    `json:"s3"`
}

func (written Written) succeeded() bool { return written.S3 >= 200 && written.S3 < 300 }

// writeFile does for a test what a client does over NFS. It answers when S3 has, where the real servers do so before: with
// 502 when S3 refuses, and as on the real ones the file's name is kept all the same.
func (server *Server) writeFile(call *Call) Answer {
	content, err := io.ReadAll(call.Body)
	if err != nil {
		return bad(err.Error())
	}
	export, refusal := server.mount(call.Names[0], true)
	if refusal != "" {
		return Answer{http.StatusForbidden, Line(refusal)}
	}

	written, err := server.put(export, call.Names[1], content)
	if err != nil {
		return Answer{http.StatusInternalServerError, Line(err.Error())}
	}
	if !written.succeeded() {
		return Answer{http.StatusBadGateway, written}
	}
	return ok(written)
}

// put keeps the content of a file, and its name also when S3 refuses the content.
func (server *Server) put(export *Export, file string, content []byte) (Written, error) {
	object, written := export.object(server.generation, file, content), Written{S3: http.StatusOK}
	switch {
	case export.bucket != nil:
		_, err := export.bucket.call(http.MethodPut, object, content)
		written = Written{export.bucket.KeyID, object, apiErrorStatus(err)}
	case export.local != "":
		target := filepath.Join(inside(export.local), object)
		err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, content, 0o600))
		if err != nil {
			return written, err
		}
	default:
		server.lock.Lock()
		export.memory[object] = content
		server.lock.Unlock()
	}
	return written, server.keep(export, file, object)
}

// object names what holds the content of a file.
func (export *Export) object(generation Generation, file string, content []byte) string {
	if generation == legacy {
		return fmt.Sprintf("%s/%s/chunk-0/block-0", trimSlash(export.name), file)
	}
	prefix := ""
	if export.bucket != nil {
		prefix = export.bucket.Prefix
	}
	return prefix + "blocks/" + hashOf(content)[:32]
}

// keep writes the file's name to the metadata store, or takes it from there when nothing has its content.
func (server *Server) keep(export *Export, file, object string) error {
	server.lock.Lock()
	defer server.lock.Unlock()

	export.files[file] = object
	if object == "" {
		delete(export.files, file)
	}
	if export.metadata == "" {
		return nil
	}
	content, err := json.Marshal(export.files)
	if err != nil {
		return err
	}
	return os.WriteFile(export.index(), content, 0o600)
}

// readFile does for a test what a client does over NFS. Nothing is cached: what S3 does not have is lost.
func (server *Server) readFile(call *Call) Answer {
	export, refusal := server.mount(call.Names[0], false)
	if refusal != "" {
		return Answer{http.StatusForbidden, Line(refusal)}
	}

	content, err := server.get(export, call.Names[1])
	if errors.Is(err, fs.ErrNotExist) {
		return Answer{http.StatusNotFound, Line("NFS3ERR_NOENT")}
	}
	if err != nil {
		return Answer{http.StatusBadGateway, Line(err.Error())}
	}
	return ok(content)
}

// get returns the content of a file; fs.ErrNotExist says that there is no such file.
func (server *Server) get(export *Export, file string) ([]byte, error) {
	server.lock.Lock()
	object, exists := export.files[file]
	content := export.memory[object]
	server.lock.Unlock()
	if !exists {
		return nil, fs.ErrNotExist
	}

	if export.bucket != nil {
		return export.bucket.call(http.MethodGet, object, nil)
	}
	if export.local != "" {
		content, err := os.ReadFile(filepath.Join(inside(export.local), object))
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("the content of " + file + " is lost")
		}
		return content, err
	}
	return content, nil
}

// names returns the names of a share's files.
func (server *Server) names(export *Export) []string {
	server.lock.Lock()
	defer server.lock.Unlock()
	return slices.Sorted(maps.Keys(export.files))
}
