// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
)

// subject is what a status is about.
type subject struct {
	*session.Session
	// refusal says why the spec isn't accepted; its zero value says that it is.
	refusal verdict
	// over says why the session is over; its zero value says that it isn't.
	over verdict
}

// verdict is on a session.
type verdict struct{ reason, message string }

// statusOf says how a session is doing. Old is the status until now, of which times are
// kept.
func statusOf(s subject, v *view, old *v1alpha1.SessionStatus, now time.Time) *v1alpha1.SessionStatus {
	status := &v1alpha1.SessionStatus{
		ObservedGeneration: s.Generation, Events: v.events, Lost: v.lost, Gaps: v.gaps,
		Nodes: v1alpha1.NodeCounts{
			Summary: fmt.Sprintf("%d/%d", v.running, v.desired),
			Desired: count(v.desired), Running: count(v.running), Failed: count(v.failed),
		},
		StartTime: old.StartTime, Outputs: outputsOf(s.Session, v),
	}
	if status.StartTime == nil && !v.began.IsZero() {
		status.StartTime = seconds(v.began)
	}
	if v.lastGap != nil {
		// What is told in whole seconds must contain the gap.
		status.LastGap = &v1alpha1.Gap{Node: v.lastGap.node, From: *seconds(v.lastGap.from), To: *seconds(v.lastGap.to.Add(time.Second - 1))}
	}
	expiry, mortal := s.Expiry()
	if mortal {
		status.ExpiresAt = seconds(expiry)
	}
	switch {
	case s.Expired(now):
		s.over, status.CompletionTime = verdict{"Expired", "its time to live is over"}, seconds(expiry)
	case v.desired > 0 && v.done == v.desired && !s.Spec.Suspend:
		s.over, status.CompletionTime = verdict{"Done", "what it asks for has been done on " + ofNodes(v.done, v.desired)}, old.CompletionTime
		if status.CompletionTime == nil {
			status.CompletionTime = seconds(now)
		}
	}
	wanted := s.over.reason == "" && !s.Spec.Suspend && s.refusal.reason == ""
	if wanted {
		for _, f := range v.failures {
			status.Failures = append(status.Failures, v1alpha1.NodeFailure{Node: f.node, Reason: word(f.reason), Message: sentence(f.message, maxFailure)})
		}
	} else {
		status.Nodes.Failed = 0
	}
	status.Phase = phaseOf(s, v, status)
	status.Conditions = conditionsOf(s, v, status, old, now)
	return status
}

// phaseOf is the state in one word.
func phaseOf(s subject, v *view, status *v1alpha1.SessionStatus) v1alpha1.SessionPhase {
	switch {
	case s.over.reason != "":
		return v1alpha1.SessionCompleted
	case s.refusal.reason != "":
		return v1alpha1.SessionFailed
	case s.Spec.Suspend:
		return v1alpha1.SessionSuspended
	case v.running == 0 && v.failed > 0 && v.failed == v.desired:
		return v1alpha1.SessionFailed
	case v.running == 0:
		return v1alpha1.SessionPending
	case v.failed > 0 || failingOutput(status) != nil:
		return v1alpha1.SessionDegraded
	case v.running < v.desired && status.StartTime == nil:
		return v1alpha1.SessionPending
	}
	return v1alpha1.SessionRunning
}

func outputsOf(s *session.Session, v *view) (all []v1alpha1.OutputStatus) {
	out := s.Spec.Output
	for _, o := range []struct {
		name   string
		wanted bool
	}{{"file", out.File != nil}, {"metrics", out.Metrics != nil}, {"otlp", out.OTLP != nil}} {
		if !o.wanted {
			continue
		}
		seen := v.outputs[o.name]
		one := v1alpha1.OutputStatus{Name: o.name, Written: seen.written, Dropped: seen.dropped, FailingNodes: count(seen.failing)}
		if seen.failing > 0 {
			one.Error = sentence("node "+seen.node+": "+seen.err, maxFailure)
		}
		all = append(all, one)
	}
	return all
}

func failingOutput(status *v1alpha1.SessionStatus) *v1alpha1.OutputStatus {
	for i := range status.Outputs {
		if status.Outputs[i].FailingNodes > 0 {
			return &status.Outputs[i]
		}
	}
	return nil
}

// conditionsOf are all four.
func conditionsOf(s subject, v *view, status, old *v1alpha1.SessionStatus, now time.Time) []metav1.Condition {
	conditions := make([]metav1.Condition, 0, 4)
	for _, c := range old.Conditions {
		conditions = append(conditions, *c.DeepCopy())
	}
	set := func(kind string, is bool, reason, message string) {
		value := metav1.ConditionFalse
		if is {
			value = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&conditions, metav1.Condition{
			Type: kind, Status: value, Reason: reason, Message: message,
			ObservedGeneration: s.Generation, LastTransitionTime: *seconds(now),
		})
	}
	if s.refusal.reason != "" {
		set(v1alpha1.ConditionAccepted, false, s.refusal.reason, sentence(s.refusal.message, maxRefusal))
	} else {
		set(v1alpha1.ConditionAccepted, true, "Valid", "the gadget takes the spec")
	}
	is, reason, message := running(s, v)
	set(v1alpha1.ConditionRunning, is, reason, message)
	is, reason, message = degraded(v, status)
	set(v1alpha1.ConditionDegraded, is, reason, message)
	if s.over.reason != "" {
		set(v1alpha1.ConditionCompleted, true, s.over.reason, s.over.message)
	} else {
		set(v1alpha1.ConditionCompleted, false, "NotOver", "it goes on")
	}
	return conditions
}

func running(s subject, v *view) (is bool, reason, message string) {
	switch {
	case s.over.reason != "":
		return false, s.over.reason, s.over.message
	case s.refusal.reason != "":
		return false, "NotAccepted", "its spec isn't accepted"
	case s.Spec.Suspend:
		return false, "Suspended", "its spec says so"
	case v.desired == 0:
		return false, "NoNodes", "no node that it is for has an agent"
	case v.running == 0 && v.failed > 0:
		return false, "NoneRuns", fmt.Sprintf("it can't run on %s", ofNodes(v.failed, v.desired))
	case v.running == 0:
		return false, "Starting", fmt.Sprintf("it is being started on %s", ofNodes(v.desired, v.desired))
	case v.outdated > 0:
		return true, "Updating", fmt.Sprintf("%s of those that run it do so with an older spec", ofNodes(v.outdated, v.running))
	case v.running < v.desired:
		return true, "RunsPartly", fmt.Sprintf("it runs on %s", ofNodes(v.running, v.desired))
	}
	return true, "Runs", fmt.Sprintf("it runs on %s", ofNodes(v.running, v.desired))
}

func degraded(v *view, status *v1alpha1.SessionStatus) (is bool, reason, message string) {
	if status.Nodes.Failed > 0 {
		first := status.Failures[0]
		return true, "NodesFail", fmt.Sprintf("it can't run on %s; node %s: %s: %s", ofNodes(v.failed, v.desired), first.Node, first.Reason, first.Message)
	}
	if o := failingOutput(status); o != nil && status.CompletionTime == nil {
		return true, "OutputFails", fmt.Sprintf("output %s fails on %s; %s", o.Name, ofNodes(int(o.FailingNodes), v.desired), o.Error)
	}
	return false, "AsWanted", "nothing is wrong"
}

func ofNodes(some, all int) string {
	switch {
	case some < all:
		return fmt.Sprintf("%d of %d nodes", some, all)
	case all == 1:
		return "one node"
	}
	return fmt.Sprintf("all %d nodes", all)
}

func count(n int) int32 { return int32(min(n, math.MaxInt32)) }

// seconds is a time as the API has it.
func seconds(t time.Time) *metav1.Time {
	return &metav1.Time{Time: t.Truncate(time.Second)}
}
