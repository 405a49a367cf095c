// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// TestPhases: one word, and the conditions that go with it.
func TestPhases(t *testing.T) {
	refused := verdict{"InvalidSpec", "no"}
	for _, test := range []struct {
		name     string
		change   func(*subject)
		view     view
		phase    v1alpha1.SessionPhase
		running  string
		degraded string
	}{
		{"no nodes", nil, view{}, v1alpha1.SessionPending, "False NoNodes", "False AsWanted"},
		{"being started", nil, view{desired: 2}, v1alpha1.SessionPending, "False Starting", "False AsWanted"},
		{"half of it", nil, view{desired: 2, running: 1}, v1alpha1.SessionPending, "True RunsPartly", "False AsWanted"},
		{"a node that joins", nil, view{desired: 2, running: 1, began: epoch}, v1alpha1.SessionRunning, "True RunsPartly", "False AsWanted"},
		{"all of it", nil, view{desired: 2, running: 2, began: epoch}, v1alpha1.SessionRunning, "True Runs", "False AsWanted"},
		{"older generations", nil, view{desired: 2, running: 2, outdated: 1, began: epoch}, v1alpha1.SessionRunning, "True Updating", "False AsWanted"},
		{"a failure", nil, view{desired: 2, running: 1, failed: 1, failures: []failure{{"a", "X", "y"}}}, v1alpha1.SessionDegraded, "True RunsPartly", "True NodesFail"},
		{"a failure while others start", nil, view{desired: 2, failed: 1, failures: []failure{{"a", "X", "y"}}}, v1alpha1.SessionPending, "False NoneRuns", "True NodesFail"},
		{"failures only", nil, view{desired: 1, failed: 1, failures: []failure{{"a", "X", "y"}}}, v1alpha1.SessionFailed, "False NoneRuns", "True NodesFail"},
		{"an output that fails", func(s *subject) { s.Spec.Output.File = &v1alpha1.FileOutput{} }, view{desired: 1, running: 1, outputs: map[string]outputView{"file": {failing: 1, node: "a", err: "disk full"}}}, v1alpha1.SessionDegraded, "True Runs", "True OutputFails"},
		{"an output that isn't wanted any more", nil, view{desired: 1, running: 1, began: epoch, outputs: map[string]outputView{"file": {failing: 1, node: "a", err: "disk full"}}}, v1alpha1.SessionRunning, "True Runs", "False AsWanted"},
		{"suspended", func(s *subject) { s.Spec.Suspend = true }, view{desired: 1, failed: 1, failures: []failure{{"a", "X", "y"}}}, v1alpha1.SessionSuspended, "False Suspended", "False AsWanted"},
		{"refused", func(s *subject) { s.refusal = refused }, view{desired: 1, failed: 1, failures: []failure{{"a", "X", "y"}}}, v1alpha1.SessionFailed, "False NotAccepted", "False AsWanted"},
		{"done everywhere", nil, view{desired: 2, done: 2}, v1alpha1.SessionCompleted, "False Done", "False AsWanted"},
		{"done, but for one node", nil, view{desired: 2, done: 1, running: 1, began: epoch}, v1alpha1.SessionRunning, "True RunsPartly", "False AsWanted"},
		{"over", func(s *subject) { s.Spec.TTL = &metav1.Duration{Duration: time.Second}; s.Spec.Suspend = true }, view{desired: 1, running: 1}, v1alpha1.SessionCompleted, "False Expired", "False AsWanted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := subject{Session: plain(t, "s")}
			if test.change != nil {
				test.change(&s)
			}
			got := statusOf(s, &test.view, &v1alpha1.SessionStatus{}, after(time.Minute))
			require.Equal(t, test.phase, got.Phase)
			text := func(kind string) string {
				c := meta.FindStatusCondition(got.Conditions, kind)
				require.NotNil(t, c, kind)
				require.EqualValues(t, 1, c.ObservedGeneration)
				return fmt.Sprintf("%s %s", c.Status, c.Reason)
			}
			require.Equal(t, test.running, text(v1alpha1.ConditionRunning))
			require.Equal(t, test.degraded, text(v1alpha1.ConditionDegraded))
			require.Equal(t, got.Phase == v1alpha1.SessionCompleted, meta.IsStatusConditionTrue(got.Conditions, v1alpha1.ConditionCompleted))
			require.Equal(t, s.refusal.reason == "", meta.IsStatusConditionTrue(got.Conditions, v1alpha1.ConditionAccepted))
			require.Len(t, got.Conditions, 4)
		})
	}
}

// TestTransitions: times of conditions change when they do.
func TestTransitions(t *testing.T) {
	s := subject{Session: plain(t, "s")}
	first := statusOf(s, &view{desired: 1}, &v1alpha1.SessionStatus{}, after(time.Minute))
	same := statusOf(s, &view{desired: 1, events: 5}, first, after(2*time.Minute))
	require.Negative(t, due(first, statusOf(s, &view{desired: 1}, first, after(2*time.Minute)), time.Hour, 1))
	require.Equal(t, first.Conditions, same.Conditions)
	other := statusOf(s, &view{desired: 1, running: 1}, same, after(3*time.Minute))
	require.Equal(t, after(3*time.Minute), meta.FindStatusCondition(other.Conditions, v1alpha1.ConditionRunning).LastTransitionTime.UTC())
	require.Equal(t, after(time.Minute), meta.FindStatusCondition(other.Conditions, v1alpha1.ConditionAccepted).LastTransitionTime.UTC())
}

// TestSizes: a status is small, whatever agents say.
func TestSizes(t *testing.T) {
	s := subject{Session: plain(t, "s"), refusal: verdict{"InvalidSpec", strings.Repeat("x", 1e6)}}
	s.Spec.Output.OTLP = &v1alpha1.OTLPOutput{}
	long := strings.Repeat("é", 1e5)
	v := view{desired: math.MaxInt, outputs: map[string]outputView{"otlp": {failing: 1, node: "a", err: long}}}
	for range maxFailures {
		v.failures = append(v.failures, failure{"a", long, long})
	}
	v.failed = maxFailures
	got := statusOf(s, &v, &v1alpha1.SessionStatus{}, epoch)
	require.Less(t, len(fmt.Sprint(got)), 16<<10)
	s.refusal = verdict{}
	got = statusOf(s, &v, &v1alpha1.SessionStatus{}, epoch)
	require.Less(t, len(fmt.Sprint(got)), 16<<10)
	require.EqualValues(t, math.MaxInt32, got.Nodes.Desired)
	for _, f := range got.Failures {
		require.LessOrEqual(t, len(f.Message), maxFailure)
		require.Equal(t, reasonUnknown, f.Reason)
	}
}

func TestGapInWholeSeconds(t *testing.T) {
	v := view{gaps: 1, lastGap: &gap{"a", after(1500 * time.Millisecond), after(2500 * time.Millisecond)}}
	got := statusOf(subject{Session: plain(t, "s")}, &v, &v1alpha1.SessionStatus{}, epoch)
	require.Equal(t, after(time.Second), got.LastGap.From.UTC())
	require.Equal(t, after(3*time.Second), got.LastGap.To.UTC())
}

func TestDue(t *testing.T) {
	base := &v1alpha1.SessionStatus{Phase: v1alpha1.SessionRunning, Events: 1, Outputs: []v1alpha1.OutputStatus{{Name: "file", Written: 1}}}
	counts, phase := base.DeepCopy(), base.DeepCopy()
	counts.Events, counts.Lost, counts.Outputs[0].Written, counts.Outputs[0].Dropped = 2, 1, 2, 1
	phase.Phase = v1alpha1.SessionDegraded
	for _, test := range []struct {
		name  string
		now   *v1alpha1.SessionStatus
		ago   time.Duration
		nodes int
		want  time.Duration
	}{
		{"nothing", base.DeepCopy(), time.Hour, 1, -1},
		{"a change", phase, 300 * time.Millisecond, 1, 700 * time.Millisecond},
		{"a change at last", phase, time.Second, 1, 0},
		{"counts", counts, time.Second, 1000, 4 * time.Second},
		{"counts at last", counts, 6 * time.Second, 1000, 0},
		{"counts of many nodes", counts, 5 * time.Second, 4000, 15 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, due(base, test.now, test.ago, test.nodes))
		})
	}
	require.EqualValues(t, 1, base.Outputs[0].Written)
}

func TestTexts(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		" two\nlines\t and  spaces ": "two lines and spaces",
		"\x1b[31mred\x1b[0m":         "?[31mred?[0m",
		"\u202egpj.exe":              "?gpj.exe",
		"a\xffb":                     "a?b",
		strings.Repeat("é", 20):      strings.Repeat("é", 14) + "...",
	} {
		require.Equal(t, want, sentence(text, 32), text)
	}
	require.Equal(t, "LoadFailed", word("LoadFailed"))
	for _, text := range []string{"", "two words", "lower", "X\x1b", strings.Repeat("X", 65)} {
		require.Equal(t, reasonUnknown, word(text))
	}
}

func FuzzSentence(f *testing.F) {
	f.Add("a\x1b[0m\nb\u202e", 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(limit%1024, 3)
		got := sentence(text, limit)
		require.LessOrEqual(t, len(got), limit)
		for _, r := range got {
			require.True(t, r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f), "%q", got)
		}
	})
}

func TestTally(t *testing.T) {
	var sum tally
	sum.add(0, math.MaxUint64, false, false, false)
	sum.add(0, math.MaxUint64, true, true, false)
	require.EqualValues(t, math.MaxInt64, sum.total())
}

func TestWhyNot(t *testing.T) {
	reason, problem := whyNot(status.Error(codes.Unimplemented, "unknown method"))
	require.Equal(t, reasonTooOld, reason)
	require.Contains(t, problem, "older than the controller")
	reason, problem = whyNot(status.Error(codes.Unavailable, "its pod is Pending"))
	require.Equal(t, reasonUnavailable, reason)
	require.Equal(t, "the agent doesn't report: its pod is Pending", problem)
	_, problem = whyNot(errors.New("EOF"))
	require.Equal(t, "the agent doesn't report: EOF", problem)
}
