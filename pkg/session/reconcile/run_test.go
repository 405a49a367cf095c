// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"nodegadget.dev/pkg/session"
)

// TestDefinitionsAreAwaited: quietly, for as long as it takes.
func TestDefinitionsAreAwaited(t *testing.T) {
	var answer atomic.Pointer[metav1.APIResourceList]
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		list := answer.Load()
		if list == nil || request.URL.Path != "/apis/nodegadget.dev/v1alpha1" {
			http.NotFound(w, request)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	}))
	defer api.Close()
	var log bytes.Buffer
	opts := Options{Config: &rest.Config{Host: api.URL}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithTimeout(t.Context(), retryPause+retryPause/2)
	defer cancel()
	require.False(t, awaitDefinitions(ctx, opts))
	require.Equal(t, 1, strings.Count(log.String(), "waiting for their definitions"), log.String())

	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "nodegadget.dev/v1alpha1"}
	list.APIResources = []metav1.APIResource{{Name: "tracesessions", Kind: session.Kind}}
	answer.Store(list)
	log.Reset()
	time.AfterFunc(time.Second, func() {
		both := list.DeepCopy()
		both.APIResources = append(both.APIResources, metav1.APIResource{Name: "clustertracesessions", Kind: session.ClusterKind})
		answer.Store(both)
	})
	require.True(t, awaitDefinitions(t.Context(), opts))
	require.Contains(t, log.String(), "there is no ClusterTraceSession")
}

// TestQuiet: what libraries say of themselves is for debugging, what they warn of isn't.
func TestQuiet(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelInfo: "", slog.LevelWarn: "level=WARN msg=hello in=out g.a=1\n"} {
		var text bytes.Buffer
		log := slog.New(quiet{slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})})
		log.With("in", "out").WithGroup("g").Log(t.Context(), level, "hello", "a", 1)
		require.Equal(t, want, text.String())
	}
	var text bytes.Buffer
	debug := slog.New(quiet{slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})})
	debug.Info("hello")
	require.Contains(t, text.String(), "level=DEBUG msg=hello")
}
