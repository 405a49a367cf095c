// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"nodegadget.dev/pkg/agent/heartbeat"
	"nodegadget.dev/pkg/btf/kernel"
)

const (
	// maxMissed is how many heartbeats in a row may be missed.
	maxMissed = 3
	// maxSilence is how long the reader of a run's buffer may not have looked at it.
	maxSilence = maxMissed * heartbeat.Period
)

// healthy says why the agent should be restarted, nil if it needn't.
func (a *Agent) healthy(now time.Time) error {
	if h := a.opts.Heartbeat; h != nil && h.Missed() >= maxMissed {
		return fmt.Errorf("the kernel has not handed over the last %d events that the agent made", h.Missed())
	}
	if silent := a.ledger.silent(now); silent > maxSilence {
		return fmt.Errorf("a run has not been read for %v", silent.Round(time.Millisecond))
	}
	return nil
}

// ready says why the agent can't serve all that it is for, nil if it can. A node for
// whose kernel there are no types is as ready as it will ever be.
func (a *Agent) ready() error {
	switch {
	case !a.announced.Load():
		return errors.New("still looking for the kernel's types")
	case a.blind != nil && !isTypesError(a.blind):
		return fmt.Errorf("containers can't be followed: %w", a.blind)
	case a.pair != nil && a.pair.Expiry().Before(time.Now()):
		return errors.New("no valid certificate: the controller has not issued one")
	}
	return nil
}

// degraded is what an agent that is ready can't do.
func (a *Agent) degraded() string {
	if a.announced.Load() && a.opts.Types.Source.Kind == kernel.None {
		return "degraded: " + a.opts.Types.Source.String()
	}
	return ""
}

// Monitor serves /metrics, /healthz and /readyz.
func (a *Agent) Monitor() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metricsHandler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, a.healthy(time.Now()), "")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, a.ready(), a.degraded())
	})
	return mux
}

func answer(w http.ResponseWriter, err error, remark string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	lines := []string{"ok"}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		lines = []string{oneLine(err.Error())}
	}
	if remark != "" {
		lines = append(lines, oneLine(remark))
	}
	// Who doesn't read the answer doesn't want it.
	_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n")
}
