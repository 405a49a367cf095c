// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf/btf"

	"nodegadget.dev/pkg/btf/service/client"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/btf/witness"
)

const (
	// DefaultBundle is where the image has its bundle: the agent's own file system,
	// not the host's.
	DefaultBundle = "/usr/share/nodegadget/btf.bundle"
	// inKernelPath is where a kernel shows its own types. It is this kernel's also
	// where Options.Root is another file system, and so are its notes.
	inKernelPath = "/sys/kernel/btf/vmlinux"
	notesPath    = "/sys/kernel/notes"
	// maxCached bounds how many sets of objects a Chooser remembers types for.
	maxCached = 64
)

// Options say where to look. The zero value looks at this machine and into the
// default bundle.
type Options struct {
	// Path names the types; nothing else is tried then. It is a file with raw BTF, an
	// ELF file with a .BTF section, a directory with <release>.btf or in BTFHub's
	// layout, a bundle, or the http or https URL of a BTF service.
	Path string
	// Root is where the node's file system begins; empty means "/".
	Root string
	// Release is the kernel release, empty for the running kernel's.
	Release string
	// Bundle is a bundle's path. Empty means DefaultBundle if there is one, else Embedded.
	Bundle string
	// Embedded is the content of a bundle that the program carries, nil if none.
	Embedded []byte
	// Service is the URL of a BTF service, empty for none. ServiceCA names a file
	// with the certificates it may be signed by; ServiceTimeout bounds a question.
	Service, ServiceCA string
	ServiceTimeout     time.Duration
}

// Chooser chooses types for objects. It is safe for concurrent use.
type Chooser struct {
	id      Identity
	unnamed error // why the distribution is unknown
	root    *hostRoot
	// explicit is where Options.Path leads, nil without one.
	explicit source
	sources  []source
	places   places
	// check is witness.Check; tests have no kernel that can lie.
	check func(context.Context, *btf.Spec) (witness.Testimony, error)

	// use is held for reading while sources are in use, which Close ends.
	use    sync.RWMutex
	closed bool
	done   []func()

	mu     sync.Mutex
	chosen map[tailor.Digest]Types
}

// request is what types are wanted for: objects, and what they need together
// with the witness.
type request struct {
	objects []tailor.Object
	needs   *tailor.Needs
}

// source offers raw BTF, most plausible first. Offer returns true to see no more.
// What it doesn't have, it says to miss.
type source func(ctx context.Context, r request, offer func(candidate) bool, miss func(error))

// candidate is raw BTF that may be this kernel's.
type candidate struct {
	raw    []byte
	source Source
	// full types are tailored before use; proven ones have the kernel's build-id.
	full, proven bool
}

// Open prepares a choice: it identifies the kernel and opens what Options name.
// An error is the operator's: a file that isn't there, a URL that is none.
func Open(opts Options) (*Chooser, error) {
	return open(opts, places{inKernel: inKernelPath, notes: notesPath, bundle: DefaultBundle})
}

// places are where tests have other files.
type places struct{ inKernel, notes, bundle string }

func open(opts Options, at places) (*Chooser, error) {
	if opts.Release == "" {
		release, err := Release()
		if err != nil {
			return nil, err
		}
		opts.Release = release
	}
	root, err := openRoot(opts.Root)
	if err != nil {
		return nil, err
	}
	c := &Chooser{
		root: root, places: at, check: witness.Check,
		done: []func(){root.close}, chosen: map[tailor.Digest]Types{},
	}
	c.id, c.unnamed = identify(root, opts.Release)
	if err := c.openSources(opts); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Chooser) openSources(opts Options) error {
	if opts.Path != "" {
		return c.openExplicit(opts)
	}
	c.sources = append(c.sources, c.disk)
	bundled, err := c.openBundle(opts)
	if err != nil {
		return err
	}
	c.sources = append(c.sources, bundled)
	if opts.Service != "" {
		service, err := c.openService(opts.Service, opts, Service)
		if err != nil {
			return err
		}
		c.sources = append(c.sources, service)
	}
	return nil
}

func (c *Chooser) openService(url string, opts Options, kind SourceKind) (source, error) {
	service, err := client.New(client.Options{URL: url, CAFile: opts.ServiceCA, Timeout: opts.ServiceTimeout})
	if err != nil {
		return nil, err
	}
	return c.service(service, url, opts.ServiceTimeout, kind), nil
}

// Close releases files. Types that were chosen remain good.
func (c *Chooser) Close() {
	c.use.Lock()
	defer c.use.Unlock()
	c.closed = true
	for _, done := range c.done {
		done()
	}
	c.done = nil
}

// Identity is the kernel's.
func (c *Chooser) Identity() Identity { return c.id }

// InKernel says whether the kernel carries its own types. Without them it refuses
// some kinds of hooks, whatever types are chosen.
func (c *Chooser) InKernel() bool { return c.ownTypes() == nil }

func (c *Chooser) ownTypes() error {
	file, err := os.Open(c.places.inKernel)
	if err != nil {
		return because(c.places.inKernel, err)
	}
	file.Close()
	return nil
}

// Types chooses types for objects: those that their relocations need, and what
// proves them to be this kernel's. Without objects it tells what would be chosen.
// The error is a *NotFoundError if there are none, a *RefusedError if those that
// the operator named aren't this kernel's.
func (c *Chooser) Types(ctx context.Context, objects ...tailor.Object) (Types, error) {
	var tried []string
	if c.explicit == nil {
		err := c.ownTypes()
		if err == nil {
			return Types{Source: Source{Kind: InKernel, Path: c.places.inKernel, Release: c.id.Release}}, nil
		}
		tried = append(tried, err.Error())
	}
	r, err := c.request(objects)
	if err != nil {
		return Types{}, err
	}
	if types, ok := c.remembered(r.needs.Digest()); ok {
		return types, nil
	}
	types, _, err := c.choose(ctx, r, tried)
	if err != nil {
		return Types{}, err
	}
	c.remember(r.needs.Digest(), types)
	return types, nil
}

// Raw is what Types would choose on a kernel that carries no types, as raw BTF:
// whole from a source that has it whole, else tailored for the objects.
func (c *Chooser) Raw(ctx context.Context, objects ...tailor.Object) ([]byte, Source, error) {
	r, err := c.request(objects)
	if err != nil {
		return nil, Source{}, err
	}
	types, raw, err := c.choose(ctx, r, nil)
	return raw, types.Source, err
}

func (c *Chooser) request(objects []tailor.Object) (request, error) {
	needs, err := tailor.Parse(append(slices.Clone(objects), witness.Object(c.id.Arch))...)
	if err != nil {
		return request{}, fmt.Errorf("choosing BTF: %w", err)
	}
	return request{objects: objects, needs: needs}, nil
}

// choose returns the first candidate that is proven, with its raw BTF.
func (c *Chooser) choose(ctx context.Context, r request, tried []string) (types Types, raw []byte, err error) {
	c.use.RLock()
	defer c.use.RUnlock()
	if c.closed {
		return Types{}, nil, errors.New("choosing BTF: the agent shuts down")
	}
	var refused *RefusedError
	miss := func(err error) {
		if errors.As(err, &refused) {
			err = errors.New(refused.Why())
		}
		tried = append(tried, err.Error())
	}
	offer := func(cand candidate) bool {
		proven, err := c.prove(ctx, r, cand)
		if err != nil {
			miss(err)
			return ctx.Err() != nil
		}
		types, raw = proven, cand.raw
		return true
	}
	sources := c.sources
	if c.explicit != nil {
		sources = []source{c.explicit}
	}
	for _, s := range sources {
		s(ctx, r, offer, miss)
		if raw != nil {
			types.Source.Tried = tried
			return types, raw, nil
		}
		if ctx.Err() != nil {
			return Types{}, nil, fmt.Errorf("choosing BTF for kernel %s: %w", c.id.Release, context.Cause(ctx))
		}
	}
	if c.explicit != nil && refused != nil {
		return Types{}, nil, refused
	}
	if c.unnamed != nil && c.explicit == nil {
		tried = append(tried, c.unnamed.Error())
	}
	return Types{}, nil, c.notFound(tried)
}

func (c *Chooser) remembered(key tailor.Digest) (Types, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	types, ok := c.chosen[key]
	return types, ok
}

func (c *Chooser) remember(key tailor.Digest, types Types) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.chosen) >= maxCached {
		clear(c.chosen)
	}
	c.chosen[key] = types
}

// errNothing is why a file that the operator named can't be used at all.
var errNothing = errors.New("want a BTF file, an ELF file with a .BTF section, a directory of BTF files or in BTFHub's layout, a bundle, or the URL of a BTF service")
