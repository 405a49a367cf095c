// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"nodegadget.dev/pkg/btf/hub"
)

// maxDetail bounds what an error says to a client, in bytes.
const maxDetail = 1000

// typePrefix begins the type of every problem; what follows is one of kinds.
const typePrefix = "tag:nodegadget.dev,2026:btf-service/"

// kind is what can go wrong: the last part of a problem's type.
type kind string

const (
	badQuery    kind = "bad-query"
	badObject   kind = "bad-object"
	noRoute     kind = "no-such-route"
	noKernel    kind = "unknown-kernel"
	badMethod   kind = "method-not-allowed"
	slowUpload  kind = "upload-timeout"
	ambiguous   kind = "ambiguous-kernel"
	tooLarge    kind = "too-large"
	badType     kind = "unsupported-content"
	rateLimited kind = "rate-limited"
	brokenEntry kind = "broken-entry"
	failed      kind = "internal"
	busy        kind = "busy"
)

// kinds has the status and the title of each kind.
var kinds = map[kind]struct {
	status int
	title  string
}{
	badQuery:    {http.StatusBadRequest, "the query can't be understood"},
	badObject:   {http.StatusBadRequest, "the upload has no eBPF objects that can be read"},
	noRoute:     {http.StatusNotFound, "no such route"},
	noKernel:    {http.StatusNotFound, "the archive has no such kernel"},
	badMethod:   {http.StatusMethodNotAllowed, "the route has no such method"},
	slowUpload:  {http.StatusRequestTimeout, "the upload took too long"},
	ambiguous:   {http.StatusConflict, "several different kernels have this name"},
	tooLarge:    {http.StatusRequestEntityTooLarge, "the request asks for too much"},
	badType:     {http.StatusUnsupportedMediaType, "the upload's content type is not supported"},
	rateLimited: {http.StatusTooManyRequests, "too many requests from this address"},
	brokenEntry: {http.StatusInternalServerError, "the archive's file for this kernel is broken"},
	failed:      {http.StatusInternalServerError, "the server failed"},
	busy:        {http.StatusServiceUnavailable, "the server is busy"},
}

// problem is an error for a client, as RFC 9457 has it.
type problem struct {
	kind   kind
	detail string
	// retry is when another attempt may succeed; 0 says nothing about that.
	retry time.Duration
}

func (p *problem) Error() string { return p.detail }

func refuse(kind kind, format string, args ...any) *problem {
	return &problem{kind: kind, detail: fmt.Sprintf(format, args...)}
}

// asProblem decides what a client is told. What nobody foresaw stands in the log.
func asProblem(err error) *problem {
	var p *problem
	var tooMany *http.MaxBytesError
	var content *hub.ContentError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooMany):
		return refuse(tooLarge, "the upload has more than %d bytes", tooMany.Limit)
	case errors.Is(err, errUnknown):
		return refuse(noKernel, "%v: see /v1/kernels", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(slowUpload, "the upload didn't arrive in time")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &problem{kind: busy, detail: "the answer wasn't ready in time", retry: 5 * time.Second}
	case errors.As(err, &content):
		return refuse(brokenEntry, "%v", err)
	}
	return refuse(failed, "see the server's log")
}

// write sends the problem. Nothing may have been sent before.
func (p *problem) write(w http.ResponseWriter) {
	kind := kinds[p.kind]
	// Always marshals: strings and a number.
	body, _ := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{typePrefix + string(p.kind), kind.title, kind.status, printable(p.detail, maxDetail)})
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
	w.Header().Del("ETag")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(kind.status)
	w.Write(append(body, '\n'))
}

// printable makes text of a request fit for a terminal: one line of ASCII.
func printable(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	if !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return text
	}
	quoted := strconv.QuoteToASCII(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
