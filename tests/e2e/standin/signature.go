package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Signatures of AWS, version 4, in the headers of a request.
const (
	algorithm  = "AWS4-HMAC-SHA256"
	dateFormat = "20060102T150405Z"
	unsigned   = "UNSIGNED-PAYLOAD"
	// tokenHeader has the session token of a temporary key.
	tokenHeader = "X-Amz-Security-Token"
)

// Signature is what a request claims about itself in its Authorization header.
type Signature struct {
	KeyID, Region string
	Headers       []string
	Value         string
}

// sign adds a signature by the key of this bucket to a request whose body has this hash.
func (bucket Bucket) sign(request *http.Request, payload string, now time.Time) {
	request.Header.Set("X-Amz-Date", now.UTC().Format(dateFormat))
	request.Header.Set("X-Amz-Content-Sha256", payload)

	headers := []string{"host", "x-amz-content-sha256", "x-amz-date"}
	if bucket.Token != "" {
		request.Header.Set(tokenHeader, bucket.Token)
		headers = append(headers, strings.ToLower(tokenHeader))
	}

	signature := Signature{KeyID: bucket.KeyID, Region: bucket.Region, Headers: headers}
	value := signature.expected(request, bucket.Secret)
	request.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		algorithm, bucket.KeyID, signature.scope(request), strings.Join(signature.Headers, ";"), value))
}

// readSignature returns what the request is signed with; ok is false when it is not signed.
func readSignature(request *http.Request) (signature Signature, ok bool) {
	parts, ok := strings.CutPrefix(request.Header.Get("Authorization"), algorithm+" ")
	if !ok {
		return signature, false
	}

	for _, part := range strings.Split(parts, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			scope := strings.Split(value, "/")
			if len(scope) != 5 {
				return signature, false
			}
			signature.KeyID, signature.Region = scope[0], scope[2]
		case "SignedHeaders":
			signature.Headers = strings.Split(value, ";")
		case "Signature":
			signature.Value = value
		}
	}
	return signature, slices.Contains(signature.Headers, "host")
}

// matches tells whether the owner of this secret has signed the request.
func (signature Signature) matches(request *http.Request, secret string) bool {
	return hmac.Equal([]byte(signature.Value), []byte(signature.expected(request, secret)))
}

func (signature Signature) expected(request *http.Request, secret string) string {
	stamp := request.Header.Get("X-Amz-Date")
	canonical := sha256.Sum256([]byte(signature.canonical(request)))
	text := strings.Join([]string{algorithm, stamp, signature.scope(request), hex.EncodeToString(canonical[:])}, "\n")

	key := []byte("AWS4" + secret)
	for _, part := range strings.Split(signature.scope(request), "/") {
		key = keyed(key, part)
	}
	return hex.EncodeToString(keyed(key, text))
}

func (signature Signature) scope(request *http.Request) string {
	day, _, _ := strings.Cut(request.Header.Get("X-Amz-Date"), "T")
	return strings.Join([]string{day, signature.Region, "s3", "aws4_request"}, "/")
}

func (signature Signature) canonical(request *http.Request) string {
	lines := []string{request.Method, encode(request.URL.Path, true), canonicalQuery(request.URL.Query())}
	for _, name := range signature.Headers {
		lines = append(lines, name+":"+headerValue(request, name))
	}
	return strings.Join(append(lines, "", strings.Join(signature.Headers, ";"),
		request.Header.Get("X-Amz-Content-Sha256")), "\n")
}

func headerValue(request *http.Request, name string) string {
	switch name {
	case "host":
		if request.Host != "" {
			return request.Host
		}
		return request.URL.Host
	case "content-length":
		return fmt.Sprint(request.ContentLength)
	}
	return strings.Join(strings.Fields(strings.Join(request.Header.Values(name), ",")), " ")
}

func canonicalQuery(query url.Values) string {
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, encode(name, false)+"="+encode(value, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// encode escapes everything but letters, digits and -._~, and in a path the slashes.
func encode(text string, path bool) string {
	var encoded strings.Builder
	for _, char := range []byte(text) {
		switch {
		case char >= 'A' && char <= 'Z', char >= 'a' && char <= 'z', char >= '0' && char <= '9',
			strings.IndexByte("-._~", char) >= 0, path && char == '/':
			encoded.WriteByte(char)
		default:
			fmt.Fprintf(&encoded, "%%%02X", char)
		}
	}
	return encoded.String()
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func keyed(key []byte, text string) []byte {
	code := hmac.New(sha256.New, key)
	code.Write([]byte(text))
	return code.Sum(nil)
}
