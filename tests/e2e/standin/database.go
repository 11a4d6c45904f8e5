package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Database is what the server knows of users, stores and shares, in the file that the configuration names.
type Database struct {
	// Generation is the server whose tables these are, and Attempts counts how often the other one has tried to take them.
	Generation Generation
	Attempts   int
	// Mark is made at the first boot: with another volume it would be another.
	Mark     string
	Boots    int
	Users    []*User
	Metadata []*Store
	Content  []*Store
	Shares   []*Share
	Adapters []*Adapter

	path string
}

// User is an account. Only its password's hash is kept, and never answered.
type User struct {
	ID, Username, Name, Role string
	Enabled, MustChange      bool
	Created                  time.Time
	LastLogin                *time.Time
	Salt, Hash               string
}

// Store is a record of a metadata store or a content store: of kind payload on the legacy server, local or remote on
// the current one.
type Store struct {
	ID, Kind, Name, Type string
	// Config is the JSON that a request had.
	Config  string
	Created time.Time
}

// Share names its stores by ID.
type Share struct {
	ID, Name, Metadata, Payload, Local, Remote string
	DefaultPermission                          string
	ReadOnly, Disabled                         bool
	// WasReadOnly: row "read_only" of the shares; PUT false does not undo it.
	WasReadOnly      bool
	Created, Updated time.Time
	NFS              map[string]any
	Permissions      map[string]string
}

// Adapter is one protocol, which is there from the first boot.
type Adapter struct {
	ID, Type         string
	Port             int
	Enabled          bool
	Created, Updated time.Time
}

// openDatabase opens or creates the database, or ends the program: see takeOver.
func openDatabase(generation Generation, path string) *Database {
	database := &Database{Generation: generation, path: inside(path)}
	content, err := os.ReadFile(database.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		database.Mark = rand.Text()
		if err := os.MkdirAll(filepath.Dir(database.path), 0o755); err != nil {
			fail(fmt.Errorf("failed to create database directory: %w", err))
		}
	case err != nil:
		fail(err)
	default:
		if err := json.Unmarshal(content, database); err != nil {
			fail(fmt.Errorf("failed to open database: %w", err))
		}
	}

	if generation == current && database.Generation == legacy {
		database.takeOver()
	}
	if generation == legacy && database.Attempts > 0 {
		// It starts again, but the table with its payload stores is gone, and no share is served without one.
		database.Content = nil
	}

	database.Boots++
	database.save()
	return database
}

// takeOver: row "a changed image is a one-way door": the current server renames tables of the legacy one and then fails: in
// its migration when there is a share, and otherwise a step later. The next attempt fails as well.
func (database *Database) takeOver() {
	problem := `failed to drop payload_store_id column: SQL logic error: unknown column "payload_store_id" in foreign key ` +
		`definition (1)`
	if database.Attempts > 0 {
		problem = "failed to create default-local block store: constraint failed: UNIQUE constraint failed: " +
			"block_store_configs.name, block_store_configs.kind (2067)"
	}
	if len(database.Shares) > 0 {
		problem = "failed to run database migration: SQL logic error: Cannot add a NOT NULL column with default value NULL (1)"
	}

	database.Attempts++
	database.save()
	fail(errors.New("Error: failed to initialize control plane store: " + problem))
}

func (database *Database) save() {
	content, err := json.Marshal(database)
	if err == nil {
		scratch := database.path + ".new"
		err = errors.Join(os.WriteFile(scratch, content, 0o600), os.Rename(scratch, database.path))
	}
	if err != nil {
		fail(err)
	}
}

func (database *Database) user(name string) *User {
	return first(database.Users, func(user *User) bool { return user.Username == name })
}

func (database *Database) metadataStore(name string) *Store {
	return first(database.Metadata, func(store *Store) bool { return store.Name == name || store.ID == name })
}

func (database *Database) contentStore(kind, name string) *Store {
	return first(database.Content, func(store *Store) bool {
		return store.Kind == kind && (store.Name == name || store.ID == name)
	})
}

func (database *Database) share(name string) *Share {
	return first(database.Shares, func(share *Share) bool { return share.Name == normalized(name) })
}

func first[Item any](items []*Item, matches func(*Item) bool) *Item {
	if index := slices.IndexFunc(items, matches); index >= 0 {
		return items[index]
	}
	return nil
}

func without[Item any](items []*Item, unwanted *Item) []*Item {
	return slices.DeleteFunc(items, func(item *Item) bool { return item == unwanted })
}

func newID() string {
	random := make([]byte, 16)
	rand.Read(random)
	text := hex.EncodeToString(random)
	return fmt.Sprintf("%s-%s-%s-%s-%s", text[:8], text[8:12], text[12:16], text[16:20], text[20:])
}
