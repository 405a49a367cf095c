// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"k8s.io/client-go/rest"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/embedded"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
)

// Setup says how to put an agent together on this machine. The zero value serves
// the built-in gadgets with the types that the kernel carries, or else with those
// of the image's bundle.
type Setup struct {
	// BTF names the kernel's types; nothing else is tried then. See kernel.Options.Path.
	BTF string
	// BTFBundle is the bundle to look into, empty for the image's or BTFEmbedded.
	BTFBundle string
	// BTFEmbedded is the content of a bundle, nil for the one that the program
	// carries if it was built with the tag embedbtf.
	BTFEmbedded []byte
	// BTFService is the URL of a BTF service, empty for none; BTFServiceCA a file with
	// the certificates it may be signed by, empty for the system's; BTFServiceTimeout
	// bounds a question to it, 0 for the client's default.
	BTFService, BTFServiceCA string
	BTFServiceTimeout        time.Duration
	// HostRoot is where the host's file system is mounted, empty for "/".
	HostRoot string
	// Containers says to follow this node's containers. CgroupRoot is the cgroup that
	// holds all of the node, empty to find it; RuntimeSockets are where the container
	// runtime may listen, none for the usual places.
	Containers     bool
	CgroupRoot     string
	RuntimeSockets []string
	// Kubernetes is how to reach the API server. FollowPods lets it tell of this node's
	// pods, whose labels are else as the runtime has them, FollowSessions of trace sessions.
	Kubernetes                 *rest.Config
	FollowPods, FollowSessions bool
	// Heartbeat says to watch whether events flow.
	Heartbeat bool
	// HTTP is the address at which Monitor is served, empty for none.
	HTTP string
	// Enrolment says where the agent gets its certificate; it has none without.
	Enrolment *Enrolment
	// Gadgets is a directory of gadgets to serve instead of the built-in ones.
	Gadgets string
	// Node is the node's name; empty for the host's.
	Node string
	// Sessions bound what trace sessions may take, which the API server tells of.
	Sessions SessionLimits
	// BufferSize, QueueSize, MaxRuns, CgroupBudget and Log are those of Options.
	BufferSize, QueueSize, MaxRuns int
	CgroupBudget                   uint32
	Log                            *slog.Logger
}

// Prepare finds the gadgets and the places that may have the kernel's types, and
// makes an agent of them. Close it at the end.
func Prepare(setup Setup) (*Agent, error) {
	catalog, err := setup.catalog()
	if err != nil {
		return nil, err
	}
	if setup.Node == "" {
		if setup.Node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("reading host name: %w", err)
		}
	}
	chooser, err := setup.chooser()
	if err != nil {
		return nil, err
	}
	a := New(Options{
		Gadgets: catalog, Chooser: chooser, Types: kernel.Types{Source: kernel.Source{Release: chooser.Identity().Release}},
		Node: setup.Node, BufferSize: setup.BufferSize, QueueSize: setup.QueueSize, MaxRuns: setup.MaxRuns, CgroupBudget: setup.CgroupBudget, Sessions: setup.Sessions, Log: setup.Log,
	})
	a.setup, a.confined = setup, ownConfinement(setup.Enrolment != nil)
	if err := a.prepareEnrolment(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (s Setup) catalog() (*gadget.Catalog, error) {
	var files fs.FS = gadgets.Objects()
	if s.Gadgets != "" {
		files = os.DirFS(s.Gadgets)
	}
	catalog, err := gadget.NewCatalog(files, Arch())
	if err != nil {
		return nil, err
	}
	if len(catalog.Names()) == 0 {
		return nil, fmt.Errorf("no gadgets in %s: want <name>/gadget.%s.o", s.Gadgets, Arch())
	}
	return catalog, nil
}

func (s Setup) chooser() (*kernel.Chooser, error) {
	carried := s.BTFEmbedded
	if carried == nil {
		carried = embedded.Bundle()
	}
	return kernel.Open(kernel.Options{
		Path: s.BTF, Root: s.HostRoot, Bundle: s.BTFBundle, Embedded: carried,
		Service: s.BTFService, ServiceCA: s.BTFServiceCA, ServiceTimeout: s.BTFServiceTimeout,
	})
}

// announceTimeout bounds the first look for types: a service that doesn't answer
// must not keep the agent from serving.
const announceTimeout = 10 * time.Second

// Announce looks for the kernel's types before the first client asks, for containers
// if they are wanted, and logs what was found. A node without types is served all the
// same: runs that need them say so. An error means that the types which the operator
// named are wrong. It must not be called while the agent serves.
func (a *Agent) Announce(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	types, err := a.opts.Chooser.Types(limited)
	var refused *kernel.RefusedError
	if errors.As(err, &refused) {
		return err
	}
	a.opts.Types.Source, a.untyped = types.Source, err
	if err != nil {
		a.opts.Types.Source = noTypes(a.opts.Chooser, err)
		a.opts.Log.Warn("gadgets can't run for lack of BTF", "error", err)
	}
	a.unable = a.judge()
	a.equip(limited)
	// A whole kernel's types may have been read. The node's memory is better used by its pods.
	debug.FreeOSMemory()
	a.announced.Store(true)
	a.opts.Log.Info("agent is ready", "node", a.opts.Node, "gadgets", len(a.opts.Gadgets.Names()), "btf", a.opts.Types.Source.String())
	return nil
}

func noTypes(chooser *kernel.Chooser, err error) kernel.Source {
	source := kernel.Source{Kind: kernel.None, Release: chooser.Identity().Release, Tried: []string{err.Error()}}
	var notFound *kernel.NotFoundError
	if errors.As(err, &notFound) {
		source.Tried = notFound.Tried
	}
	return source
}
