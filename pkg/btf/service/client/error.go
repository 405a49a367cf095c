// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxProblem bounds what is read of an error's explanation, in bytes.
const maxProblem = 16 << 10

// Error is an answer other than 200.
type Error struct {
	URL    string
	Status int
	// Type tells kinds of errors apart; see the service's documentation. Empty if
	// the answer has none.
	Type string
	// Detail is the service's explanation, not escaped; may be empty.
	Detail string
	// RetryAfter is when the service wants to be asked again; 0 if it doesn't say.
	RetryAfter time.Duration
}

// Error is one line. What the service said is quoted.
func (e *Error) Error() string {
	message := fmt.Sprintf("BTF service: POST %s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		message += fmt.Sprintf(": %.500q", e.Detail)
	}
	return message
}

// Is makes errors.Is(err, ErrNotFound) true for an unknown kernel. A 404 of
// something that isn't the service is none.
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound && e.Type == unknownKernel
}

// unknownKernel is the type of the service's answer for kernels it hasn't.
const unknownKernel = "tag:nodegadget.dev,2026:btf-service/unknown-kernel"

// temporary is true if the same request may succeed later.
func (e *Error) temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
}

func readError(target string, response *http.Response) error {
	e := &Error{URL: target, Status: response.StatusCode, RetryAfter: retryAfter(response.Header.Get("Retry-After"))}
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" {
		return e
	}
	var problem struct{ Type, Detail string }
	if err := json.NewDecoder(io.LimitReader(response.Body, maxProblem)).Decode(&problem); err == nil {
		e.Type, e.Detail = problem.Type, problem.Detail
	}
	return e
}
