// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"nodegadget.dev/pkg/btf/tailor"
)

// partsOverhead is what a multipart body may have beside its objects, in bytes an object.
const partsOverhead = 4 << 10

// Content types of an object that is the whole body.
const (
	octetStream = "application/octet-stream"
	elfType     = "application/x-elf"
)

// upload reads the objects of a request: of a multipart form the parts of the
// given name, else the body, which raw has to allow.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, part string, raw bool) ([]tailor.Object, error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return nil, refuse(badType, "content type %.100q: %v", r.Header.Get("Content-Type"), err)
	}
	switch {
	case media == "multipart/form-data":
		body := http.MaxBytesReader(w, r.Body, s.maxUpload())
		return s.parts(multipart.NewReader(body, params["boundary"]), part)
	case raw && (media == "" || media == octetStream || media == elfType):
		content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxObject))
		if err != nil {
			return nil, uploadError(err)
		}
		return []tailor.Object{{Name: "object", Content: content}}, nil
	case raw:
		return nil, refuse(badType, "content type %.100q: want %s, %s or multipart/form-data with parts %q", media, octetStream, elfType, part)
	}
	return nil, refuse(badType, "content type %.100q: want multipart/form-data with parts %q", media, part)
}

// maxUpload bounds a request's body, in bytes.
func (s *Server) maxUpload() int64 {
	return int64(s.opts.MaxObjects) * (s.opts.MaxObject + partsOverhead)
}

func (s *Server) parts(form *multipart.Reader, name string) ([]tailor.Object, error) {
	var objects []tailor.Object
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, uploadError(err)
		}
		if part.FormName() != name {
			return nil, refuse(badObject, "part %.100q of the form: want only parts named %q", part.FormName(), name)
		}
		if len(objects) == s.opts.MaxObjects {
			return nil, refuse(tooLarge, "more than %d objects", s.opts.MaxObjects)
		}
		content, err := io.ReadAll(io.LimitReader(part, s.opts.MaxObject+1))
		if err != nil {
			return nil, uploadError(err)
		}
		if int64(len(content)) > s.opts.MaxObject {
			return nil, refuse(tooLarge, "object %d has more than %d bytes", len(objects)+1, s.opts.MaxObject)
		}
		objects = append(objects, tailor.Object{Name: objectName(part.FileName(), len(objects)+1), Content: content})
	}
	if len(objects) == 0 {
		return nil, refuse(badObject, "the form has no part named %q", name)
	}
	return objects, nil
}

// objectName is how errors call an object.
func objectName(file string, number int) string {
	if file == "" {
		return fmt.Sprintf("object %d", number)
	}
	return printable(file, 100)
}

// uploadError tells an upload that is wrong from one that was too large or too slow.
func uploadError(err error) error {
	var tooMany *http.MaxBytesError
	if errors.As(err, &tooMany) || isTimeout(err) {
		return err
	}
	return refuse(badObject, "reading the upload: %s", strings.TrimPrefix(err.Error(), "multipart: "))
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
