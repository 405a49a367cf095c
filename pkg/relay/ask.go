// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/version"
	"nodegadget.dev/pkg/wire"
)

const (
	// askTimeout is how long an agent may take to answer.
	askTimeout = 3 * time.Second
	// doctorTimeout is longer: an agent tries gadgets out.
	doctorTimeout = 30 * time.Second
	// asked is how many agents are asked at the same time.
	asked = 256
	// catalogs is how many agents are asked for their gadgets: most have the same.
	catalogs = 16
)

// Nodes is part of wire.RelayServer.
func (r *Relay) Nodes(ctx context.Context, _ *wire.NodesRequest) (*wire.NodesResponse, error) {
	return r.report(ctx, "see how nodes are doing", nil, func(ctx context.Context, m *member, report *wire.NodeReport) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		var err error
		report.Info, err = m.client.Info(ctx, &wire.InfoRequest{})
		return err
	})
}

// Doctor is part of wire.RelayServer.
func (r *Relay) Doctor(ctx context.Context, request *wire.DoctorRequest) (*wire.NodesResponse, error) {
	return r.report(ctx, "see what nodes lack", request.GetNodes(), func(ctx context.Context, m *member, report *wire.NodeReport) error {
		ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
		defer cancel()
		var err error
		if report.Info, err = m.client.Info(ctx, &wire.InfoRequest{}); err != nil {
			return err
		}
		report.Doctor, err = m.client.Doctor(ctx, &wire.DoctorRequest{})
		return err
	})
}

// report asks agents, all at the same time. One that doesn't answer has an error in
// its report and harms no other.
func (r *Relay) report(ctx context.Context, what string, nodes []string, ask func(context.Context, *member, *wire.NodeReport) error) (*wire.NodesResponse, error) {
	caller, err := r.opts.Gate.Authenticate(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.opts.Gate.Cluster(ctx, caller, what); err != nil {
		return nil, err
	}
	members, _ := r.opts.Fleet.all(nodes)
	response := &wire.NodesResponse{Protocol: wire.Current(), RelayVersion: version.Version}
	var group errgroup.Group
	group.SetLimit(asked)
	for _, m := range members {
		report := &wire.NodeReport{Name: m.Node}
		response.Nodes = append(response.Nodes, report)
		if report.Error = unreachable(m); report.Error != "" {
			continue
		}
		group.Go(func() error {
			m.awaitUp(ctx)
			if err := ask(ctx, m, report); err != nil {
				report.Error = reason(err)
			}
			return nil
		})
	}
	// Errors are in the reports.
	_ = group.Wait()
	for _, node := range nodes {
		if !slices.ContainsFunc(members, func(m *member) bool { return m.Node == node }) {
			response.Nodes = append(response.Nodes, &wire.NodeReport{Name: node, Error: unreachable(nil)})
		}
	}
	return response, nil
}

// Catalog is part of wire.RelayServer. It lists what any of some agents has.
func (r *Relay) Catalog(ctx context.Context, _ *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	if _, err := r.opts.Gate.Authenticate(ctx); err != nil {
		return nil, err
	}
	members, _ := r.opts.Fleet.all(nil)
	members = slices.DeleteFunc(members, func(m *member) bool { return unreachable(m) != "" })
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	// Agents that are known to answer first.
	slices.SortStableFunc(members, func(a, b *member) int { return cmp.Compare(downRank(a), downRank(b)) })
	members = members[:min(len(members), catalogs)]
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answers := make([]*wire.CatalogResponse, len(members))
	errs := make([]error, len(members))
	var group errgroup.Group
	for i, m := range members {
		group.Go(func() error {
			answers[i], errs[i] = m.client.Catalog(ctx, &wire.CatalogRequest{})
			return nil
		})
	}
	_ = group.Wait()
	return union(answers, errs)
}

func downRank(m *member) int {
	if m.up() {
		return 0
	}
	return 1
}

// union lists every gadget once, by name.
func union(answers []*wire.CatalogResponse, errs []error) (*wire.CatalogResponse, error) {
	gadgets, answered := map[string]*wire.Gadget{}, false
	why := "there are no agents in this cluster yet"
	for i, answer := range answers {
		if errs[i] != nil {
			why = "no agent answers: " + reason(errs[i])
			continue
		}
		answered = true
		for _, g := range answer.GetGadgets() {
			gadgets[g.GetName()] = g
		}
	}
	if !answered {
		return nil, status.Error(codes.Unavailable, why)
	}
	response := &wire.CatalogResponse{}
	for _, g := range gadgets {
		response.Gadgets = append(response.Gadgets, g)
	}
	slices.SortFunc(response.Gadgets, func(a, b *wire.Gadget) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return response, nil
}

// NodeStats say how an agent is doing, as far as the relay knows.
type NodeStats struct {
	Name string
	Up   bool
}

// Stats are the relay's counters.
type Stats struct {
	// Sessions go on, Lingering of them without a client.
	Sessions, Lingering int
	// Records were received from agents, Lost had no room because a client didn't read.
	// CutOff counts the clients that were given up for that reason.
	Records, Lost, CutOff uint64
	// Denied, Void and Unanswered count the streams that were ended because a right was
	// withdrawn, because the caller's credentials count no longer, and because the API
	// server didn't say for too long.
	Denied, Void, Unanswered uint64
	Nodes                    []NodeStats
}

// Stats returns the relay's counters, for metrics.
func (r *Relay) Stats() Stats {
	stats := Stats{
		Records: r.records.Load(), CutOff: r.cutOff.Load(),
		Denied: r.withdrawn.denied.Load(), Void: r.withdrawn.void.Load(), Unanswered: r.withdrawn.unanswered.Load(),
	}
	r.mu.Lock()
	stats.Lost, stats.Sessions = r.lost.Load(), len(r.sessions)
	for _, s := range r.sessions {
		_, lost := s.box.counts()
		stats.Lost += lost
		s.mu.Lock()
		if s.attached == nil {
			stats.Lingering++
		}
		s.mu.Unlock()
	}
	r.mu.Unlock()
	members, _ := r.opts.Fleet.all(nil)
	for _, m := range members {
		stats.Nodes = append(stats.Nodes, NodeStats{Name: m.Node, Up: m.up()})
	}
	return stats
}
