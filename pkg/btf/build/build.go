// SPDX-License-Identifier: Apache-2.0

// Package build makes a bundle: it walks an archive of full BTF (pkg/btf/hub),
// tailors each kernel's to the gadgets (pkg/btf/tailor), and puts the results
// into one file (pkg/btf/bundle).
//
// Work that was done is kept in a cache, so that a build which was cut short goes
// on where it was, and the next one tailors only what is new. What can't be used
// is named in the report; the rest is built.
package build

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/btf/witness"
)

// Options say what to build. Archive and Objects must be given.
type Options struct {
	// Archive is the path of a directory, a git checkout or a tar file; "-" for a
	// tar file on Stdin. See hub.Walk.
	Archive string
	Stdin   io.Reader
	// Objects are the gadgets to serve. What is needed to check that BTF is the
	// running kernel's (pkg/btf/witness) is added.
	Objects []tailor.Object
	Filter  hub.Filter
	// Cache is a directory for finished work; empty for none.
	Cache string
	// Workers is how many kernels are tailored at once; 0 stands for one a core.
	Workers int
	// Progress is called after each entry, by one worker at a time; nil for none.
	Progress func(hub.Progress)
}

// Report says what was built. Entries of the archive are those that hub.Walk
// counts.
type Report struct {
	hub.Report
	// Tailored and Cached are how many kernels were tailored now and earlier.
	Tailored int `json:"tailored"`
	Cached   int `json:"cached"`
	// Contents is how many different ones there are among the kernels.
	Contents int `json:"contents"`
	// Bytes of the bundle, and of the tailored BTF in it as if each kernel had its
	// own.
	Size     int64 `json:"size"`
	Unshared int64 `json:"unshared"`
	// Seconds of all workers together: reading and unpacking, and tailoring.
	DecodeSeconds float64  `json:"decodeSeconds"`
	TailorSeconds float64  `json:"tailorSeconds"`
	Objects       []Object `json:"objects"`
	Kernels       []Kernel `json:"kernels"`
}

// Object is one that the bundle serves.
type Object struct {
	Name        string `json:"name"`
	Digest      string `json:"digest"`
	Relocations int    `json:"relocations"`
}

// Kernel is one in the bundle.
type Kernel struct {
	Name    string `json:"name"`    // distro/release/arch/uname
	Size    int    `json:"size"`    // bytes of its tailored BTF
	Content int    `json:"content"` // kernels with one number share it
	// Unmatched are the types that the objects ask for and this kernel hasn't: a
	// module may have them, or another version. Not known of cached kernels.
	Unmatched []string `json:"unmatched,omitempty"`
}

// Build returns the bundle. The error says that nothing could be built; entries
// that could not be used are only in the report.
func Build(ctx context.Context, opts Options) ([]byte, Report, error) {
	needs, err := Needs(opts.Objects)
	if err != nil {
		return nil, Report{}, err
	}
	b := &builder{needs: needs, cache: cache{dir: opts.Cache, needs: needs.Digest()}, unmatched: make(map[layout.Kernel][]string)}
	b.writer.Objects = objectsOf(needs)
	walked, err := hub.Walk(ctx, opts.Archive, hub.Options{
		Filter: opts.Filter, Workers: opts.Workers, Stdin: opts.Stdin, Progress: opts.Progress,
	}, b.visit)
	b.report.Report = walked
	if err != nil {
		return nil, b.report, err
	}
	data, err := b.writer.Encode()
	if err != nil {
		return nil, b.report, fmt.Errorf("making bundle: %w", err)
	}
	return data, b.report, b.finish(data)
}

// Needs are those of objects and of the witness.
func Needs(objects []tailor.Object) (*tailor.Needs, error) {
	return tailor.Parse(slices.Concat(objects, witness.Objects())...)
}

// objectsOf names objects by their folder and file, so that the bundle doesn't
// depend on where it is made.
func objectsOf(needs *tailor.Needs) []bundle.Object {
	var objects []bundle.Object
	for _, o := range needs.Objects() {
		name := path.Join(path.Base(path.Dir(o.Name)), path.Base(o.Name))
		objects = append(objects, bundle.Object{Name: name, Digest: o.Digest})
	}
	return objects
}

type builder struct {
	needs *tailor.Needs
	cache cache

	mu        sync.Mutex // of what follows
	writer    bundle.Writer
	report    Report
	unmatched map[layout.Kernel][]string
}

// visit tailors one kernel, or takes what an earlier build made of the same file.
func (b *builder) visit(ctx context.Context, e *hub.Entry) error {
	if small, ok := b.cache.get(e.Digest); ok {
		return b.add(e.Kernel, small, nil, func(r *Report) { r.Cached++ })
	}
	begin := time.Now()
	full, err := e.BTF(ctx)
	if err != nil {
		return err
	}
	decoded := time.Now()
	result, err := b.needs.Cut(full)
	if err != nil {
		return hub.Broken(err)
	}
	done := time.Now()
	if err := b.cache.put(e.Digest, result.BTF); err != nil {
		return err
	}
	return b.add(e.Kernel, result.BTF, result.Unmatched, func(r *Report) {
		r.Tailored++
		r.DecodeSeconds += decoded.Sub(begin).Seconds()
		r.TailorSeconds += done.Sub(decoded).Seconds()
	})
}

func (b *builder) add(k layout.Kernel, small []byte, unmatched []string, count func(*Report)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	count(&b.report)
	if len(unmatched) > 0 {
		b.unmatched[k] = unmatched
	}
	return b.writer.Add(k, small)
}

// finish reads the bundle once more, as its users will.
func (b *builder) finish(data []byte) error {
	made, err := bundle.New(data)
	if err != nil {
		return fmt.Errorf("reading the new bundle: %w", err)
	}
	info := made.Info()
	b.report.Contents, b.report.Size, b.report.Unshared = info.Contents, info.Size, info.Unshared
	for _, o := range b.needs.Objects() {
		b.report.Objects = append(b.report.Objects, Object{o.Name, o.Digest.String(), o.Relocations})
	}
	for _, k := range made.Kernels() {
		number, size, _ := made.Content(k)
		b.report.Kernels = append(b.report.Kernels, Kernel{k.String(), size, number, b.unmatched[k]})
	}
	return nil
}
