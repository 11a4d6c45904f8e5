package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// Bucket is what a server reaches S3 with. It never changes: other keys need another one.
//
// An https endpoint is asked over real TLS, and trusted as the real servers trust it: by the CAs of the image and of the
// folders in SSL_CERT_DIR, read once. The image of the stand-in has none, so that only a mounted CA counts in a pod.
type Bucket struct {
	Name, Endpoint, Region, Prefix, KeyID, Secret, Token string
	// VirtualHost makes the bucket a part of the host name.
	VirtualHost bool
}

// Refused is S3's answer to a request that it does not fulfil.
type Refused struct{ Status int }

func (refused Refused) Error() string {
	return fmt.Sprintf("https response error StatusCode: %d, RequestID: , HostID: , api error %s: %s",
		refused.Status, apiCode(refused.Status), http.StatusText(refused.Status))
}

func apiCode(status int) string {
	if status == http.StatusNotFound {
		return "NotFound"
	}
	return http.StatusText(status)
}

// patience is how long a server tries to reach S3 until it reports that nobody answers.
var patience = seconds("STANDIN_PATIENCE_SECONDS", 5)

var outside = &http.Client{
	Timeout:       10 * time.Second,
	Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func seconds(variable string, fallback float64) time.Duration {
	number, err := strconv.ParseFloat(os.Getenv(variable), 64)
	if err != nil {
		number = fallback
	}
	return time.Duration(number * float64(time.Second))
}

// check asks S3 whether the bucket exists and the key is good.
func (bucket Bucket) check() error {
	begun := time.Now()
	_, err := bucket.call(http.MethodHead, "", nil)
	if err == nil {
		return nil
	}

	var refused Refused
	if !errors.As(err, &refused) {
		time.Sleep(patience - time.Since(begun))
		return fmt.Errorf("S3 health check failed: operation error S3: HeadBucket, exceeded maximum number of attempts, "+
			"3, https response error StatusCode: 0, RequestID: , HostID: , request send failed, %w", err)
	}
	return fmt.Errorf("S3 health check failed: operation error S3: HeadBucket, %w", err)
}

// call sends a signed request for an object, or for the bucket when the key is empty.
func (bucket Bucket) call(method, key string, body []byte) ([]byte, error) {
	target, err := url.Parse(bucket.Endpoint)
	if err != nil {
		return nil, err
	}
	if bucket.VirtualHost && net.ParseIP(target.Hostname()) == nil {
		target.Host = bucket.Name + "." + target.Host
		target = target.JoinPath("/" + key)
	} else {
		target = target.JoinPath(bucket.Name, key)
	}

	request, err := http.NewRequest(method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	bucket.sign(request, hashOf(body), time.Now())
	answer, err := outside.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = Refused{answer.StatusCode}
	}
	return content, err
}
