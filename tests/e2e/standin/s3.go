package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

// ObjectStore is an S3 endpoint: it keeps objects in memory, and accepts only requests signed with one of its keys. A key
// with a session token is a temporary one, which counts only along with the token.
type ObjectStore struct {
	lock    sync.Mutex
	keys    map[string]string
	tokens  map[string]string
	buckets map[string]map[string][]byte
	log     []Request
}

// Request is one that was answered: which key signed it, and how it ended.
type Request struct {
	Method string `json:"method"`
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	KeyID  string `json:"key_id"`
	Status int    `json:"status"`
}

// serveS3 serves until the program ends. Its first keys come from the environment, as those of every client do.
func serveS3(arguments []string) {
	flags := flag.NewFlagSet("s3", flag.ExitOnError)
	address := flags.String("listen", ":9000", "address to listen on")
	buckets := flags.String("buckets", "dittofs", "buckets that exist, separated by commas")
	certificate := flags.String("tls-cert", "", "file with a certificate chain in PEM; with it, the endpoint speaks TLS alone")
	privateKey := flags.String("tls-key", "", "file with the private key of the certificate")
	flags.Parse(arguments)

	store := &ObjectStore{keys: map[string]string{}, buckets: map[string]map[string][]byte{}}
	if id := os.Getenv("AWS_ACCESS_KEY_ID"); id != "" {
		store.keys[id] = os.Getenv("AWS_SECRET_ACCESS_KEY")
	}
	for _, bucket := range strings.Split(*buckets, ",") {
		store.buckets[bucket] = map[string][]byte{}
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /standin/keys", store.getKeys)
	mux.HandleFunc("PUT /standin/keys", store.putKeys)
	mux.HandleFunc("PUT /standin/tokens", store.putTokens)
	mux.HandleFunc("GET /standin/log", store.getLog)
	mux.HandleFunc("/", store.serveObject)
	listener := listen(*address)
	if *certificate != "" {
		go func() { fail(http.ServeTLS(listener, mux, *certificate, *privateKey)) }()
		return
	}
	go func() { fail(http.Serve(listener, mux)) }()
}

// getKeys names the keys that are valid; their secrets stay here.
func (store *ObjectStore) getKeys(answer http.ResponseWriter, _ *http.Request) {
	store.lock.Lock()
	defer store.lock.Unlock()

	ids := []string{}
	for id := range store.keys {
		ids = append(ids, id)
	}
	writeJSON(answer, http.StatusOK, ids)
}

// putKeys replaces all keys: what is left out is revoked at once.
func (store *ObjectStore) putKeys(answer http.ResponseWriter, request *http.Request) {
	keys := map[string]string{}
	if err := json.NewDecoder(request.Body).Decode(&keys); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}

	store.lock.Lock()
	store.keys = keys
	store.lock.Unlock()
	answer.WriteHeader(http.StatusNoContent)
}

// putTokens replaces the session tokens, by the IDs of their keys.
func (store *ObjectStore) putTokens(answer http.ResponseWriter, request *http.Request) {
	tokens := map[string]string{}
	if err := json.NewDecoder(request.Body).Decode(&tokens); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}

	store.lock.Lock()
	store.tokens = tokens
	store.lock.Unlock()
	answer.WriteHeader(http.StatusNoContent)
}

func (store *ObjectStore) getLog(answer http.ResponseWriter, _ *http.Request) {
	store.lock.Lock()
	defer store.lock.Unlock()
	writeJSON(answer, http.StatusOK, append([]Request{}, store.log...))
}

func (store *ObjectStore) serveObject(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}

	store.lock.Lock()
	defer store.lock.Unlock()

	bucket, key := store.address(request)
	signature, _ := readSignature(request)
	status, code, content := store.handle(request, signature, bucket, key, body)
	store.log = append(store.log, Request{request.Method, bucket, key, signature.KeyID, status})

	if code != "" {
		answer.Header().Set("Content-Type", "application/xml")
		content = fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code></Error>`, code)
	}
	answer.WriteHeader(status)
	if request.Method != http.MethodHead {
		answer.Write(content)
	}
}

// address returns the bucket and the key, which a request names in its path or, in virtual-host style, in its host.
func (store *ObjectStore) address(request *http.Request) (bucket, key string) {
	path := strings.TrimPrefix(request.URL.Path, "/")
	host, _, err := net.SplitHostPort(request.Host)
	if err != nil {
		host = request.Host
	}

	first, rest, _ := strings.Cut(host, ".")
	if store.buckets[first] != nil && rest != "" && net.ParseIP(host) == nil {
		return first, path
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

func (store *ObjectStore) handle(
	request *http.Request, signature Signature, bucket, key string, body []byte,
) (status int, code string, content []byte) {
	payload := request.Header.Get("X-Amz-Content-Sha256")
	secret, known := store.keys[signature.KeyID]
	switch {
	case signature.KeyID == "":
		return http.StatusForbidden, "AccessDenied", nil
	case !known:
		return http.StatusForbidden, "InvalidAccessKeyId", nil
	case !signature.matches(request, secret):
		return http.StatusForbidden, "SignatureDoesNotMatch", nil
	case request.Header.Get(tokenHeader) != store.tokens[signature.KeyID]:
		return http.StatusForbidden, "InvalidToken", nil
	case payload != unsigned && !strings.HasPrefix(payload, "STREAMING-") && payload != hashOf(body):
		return http.StatusBadRequest, "XAmzContentSHA256Mismatch", nil
	}

	objects := store.buckets[bucket]
	if objects == nil {
		return http.StatusNotFound, "NoSuchBucket", nil
	}
	if key == "" {
		return http.StatusOK, "", nil
	}
	switch request.Method {
	case http.MethodPut:
		objects[key] = body
		return http.StatusOK, "", nil
	case http.MethodDelete:
		delete(objects, key)
		return http.StatusNoContent, "", nil
	case http.MethodGet, http.MethodHead:
		if content, ok := objects[key]; ok {
			return http.StatusOK, "", content
		}
		return http.StatusNotFound, "NoSuchKey", nil
	}
	return http.StatusNotImplemented, "NotImplemented", nil
}
