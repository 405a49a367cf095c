// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	apitypes "k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

const (
	// sessionQueue bounds what waits to be put on a session's tape, in bytes. The tape
	// never waits, so that this is only what a late goroutine needs.
	sessionQueue = 2 << 20
	// sessionRetry is how long a session that can't run is left alone.
	sessionRetry = 15 * time.Second
	// overlap is how long records may arrive that were made before a change of the spec.
	overlap = 10 * time.Second
	// lateStart is how long after a session was made a node may begin with it without
	// saying so: it takes an agent a moment to hear of it.
	lateStart = 5 * time.Second
)

// recorder is one trace session on this node. Its goroutine, run, does what the latest
// spec says, and puts what is recorded on a tape, which outlasts the recording: what was
// retained can be read until the session is deleted.
type recorder struct {
	sessions *sessions
	uid      apitypes.UID
	// wanted has the latest spec that run has not looked at.
	wanted chan session.Session
	// finished is closed when the client whose session it is wants its end.
	finished   chan struct{}
	finishOnce sync.Once
	cancel     context.CancelFunc
	done       chan struct{}

	mu    sync.Mutex
	spec  session.Session
	phase wire.SessionState_Phase
	// reason and message say why it isn't running.
	reason, message string
	// tape and header are there from the first recording on.
	tape   *tape.Tape
	header *wire.Header
	began  time.Time
	// records were put on the tape; past is what members lost that have left.
	records uint64
	past    wire.Loss
	member  *member
	readers uint32
	outputs []*output

	// What follows is run's own. over says that it doesn't begin again. keep says which
	// records of the present member belong on the tape, for as long as others may have been
	// recorded by the one before as well.
	over      bool
	keep      func(record []byte) bool
	keepUntil time.Time
	// throttled is how many records of the present member were left out when that was last told.
	throttled uint64
}

func newRecorder(s *sessions, wanted session.Session) *recorder {
	r := &recorder{sessions: s, uid: wanted.UID, spec: wanted, wanted: make(chan session.Session, 1), finished: make(chan struct{}), done: make(chan struct{})}
	r.want(wanted)
	return r
}

// want gives the recorder another spec. One goroutine calls it.
func (r *recorder) want(wanted session.Session) {
	select {
	case <-r.wanted:
	default:
	}
	r.wanted <- wanted
}

// run records until ctx ends.
func (r *recorder) run(ctx context.Context) {
	defer close(r.done)
	defer r.close()
	ticker := time.NewTicker(lossInterval)
	defer ticker.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	finished := r.finished
	for {
		var batches <-chan *parcel
		if r.member != nil {
			batches = r.member.queue.batches
		}
		var failure error
		select {
		case <-ctx.Done():
			return
		case <-finished:
			finished = nil
			r.stop()
			r.conclude("Ended", "its client has ended it")
		case wanted := <-r.wanted:
			failure = r.change(ctx, wanted)
		case <-retry.C:
			failure = r.change(ctx, r.spec)
		case p, ok := <-batches:
			if ok {
				r.record(p, r.keep)
				continue
			}
			failure = r.ended()
		case <-ticker.C:
			r.tellThrottled(false)
			if time.Now().After(r.keepUntil) {
				r.keep = nil
			}
		}
		if failure != nil {
			r.fail(failure)
			retry.Reset(sessionRetry)
		}
	}
}

// change does what the spec says from now on. A recording that is to go on differently
// goes on without a gap: the new one has begun before the old one ends.
func (r *recorder) change(ctx context.Context, wanted session.Session) error {
	if phase, reason, message := r.sessions.verdict(&wanted); phase != wire.SessionState_RUNNING {
		r.stop()
		r.set(wanted, phase, reason, message)
		return nil
	}
	if r.over {
		r.set(wanted, wire.SessionState_STOPPED, r.reason, r.message)
		return nil
	}
	if r.member != nil && proto.Equal(wanted.Start(), r.spec.Start()) {
		r.set(wanted, wire.SessionState_RUNNING, "", "")
		r.arrange(ctx)
		return nil
	}
	next, err := r.sessions.join(ctx, &wanted)
	if err != nil {
		r.stop()
		r.set(wanted, wire.SessionState_PENDING, "", "")
		return err
	}
	if err := r.replace(next); err != nil {
		return err
	}
	r.set(wanted, wire.SessionState_RUNNING, "", "")
	r.arrange(ctx)
	return nil
}

// replace lets next record in the place of the present member. What both have got is
// told apart by the time at which next had begun.
func (r *recorder) replace(next *member) error {
	header, err := r.sessions.agent.header(next)
	if err != nil {
		next.abandon()
		return err
	}
	if r.member != nil {
		before, after := edge(header)
		r.drain(before)
		r.keep, r.keepUntil = after, time.Now().Add(overlap)
	}
	r.mu.Lock()
	r.member, r.header, r.throttled = next, header, 0
	if r.began.IsZero() {
		r.began = time.Now()
	}
	late := r.tape == nil && r.began.Sub(r.spec.Created) > lateStart
	if r.tape == nil {
		r.tape = tape.New(r.retention(header))
	}
	r.mu.Unlock()
	if late {
		r.tape.Notice(fmt.Sprintf("recording on this node began at %s, %s after the session was made: what happened before is not known here",
			r.began.UTC().Format(time.RFC3339), r.began.Sub(r.spec.Created).Round(time.Second)))
	}
	return nil
}

// drain ends the present member, and puts what it has recorded on the tape, as far as
// keep says so.
func (r *recorder) drain(keep func(record []byte) bool) {
	if r.member == nil {
		return
	}
	r.member.leave()
	for p := range r.member.queue.batches {
		r.record(p, keep)
	}
	r.tellThrottled(true)
	r.settle()
}

// settle adds up what a member has lost, which has ended.
func (r *recorder) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The kernel's counters are those that were read last, if they can't be any more.
	loss, _ := r.member.loss()
	r.past.Add(loss)
	r.member = nil
}

// ended takes note that the gadget has ended by itself, as a snapshot does that is
// taken once.
func (r *recorder) ended() error {
	err, once := r.member.failure, r.member.plan.alone()
	r.member.leave()
	r.settle()
	switch {
	case err == nil && once:
		r.closeOutputs()
		r.conclude("Done", "it was taken once")
		return nil
	case err == nil:
		return errOver
	}
	return err
}

// finish ends the recording for good.
func (r *recorder) finish() { r.finishOnce.Do(func() { close(r.finished) }) }

// conclude says that nothing will be recorded any more, also to those who read.
func (r *recorder) conclude(reason, message string) {
	r.over = true
	if r.tape != nil {
		r.tape.Close()
	}
	r.set(r.spec, wire.SessionState_STOPPED, reason, message)
}

// stop ends the recording. What is retained stays.
func (r *recorder) stop() {
	r.drain(nil)
	r.closeOutputs()
}

// record puts a batch on the tape.
func (r *recorder) record(p *parcel, keep func(record []byte) bool) {
	queue := r.member.queue
	batch := &p.Batch
	if keep != nil {
		batch = batch.Keep(keep)
	}
	var explained []*wire.Container
	for _, c := range p.containers {
		explained = append(explained, containerMessage(c))
	}
	r.tape.Append(batch, explained)
	r.mu.Lock()
	r.records += uint64(batch.GetCount())
	r.mu.Unlock()
	queue.recycle(p)
}

// fail notes why the session doesn't run. It is tried again.
func (r *recorder) fail(err error) {
	r.closeOutputs()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.reason, r.message = wire.SessionState_FAILED, failureReason(err), brief(err)
	r.sessions.poke()
}

// set notes which spec is in effect, and what has come of it.
func (r *recorder) set(spec session.Session, phase wire.SessionState_Phase, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spec, r.phase, r.reason, r.message = spec, phase, reason, message
	if r.tape != nil {
		r.tape.Resize(retainRecords(&spec), retainBytes(&spec))
	}
	r.sessions.poke()
}

// tellThrottled says on the tape that records are left out, and because of whom.
func (r *recorder) tellThrottled(end bool) {
	m := r.member
	if m == nil {
		return
	}
	if left := m.queue.throttled.Load() - r.throttled; left > 0 {
		r.throttled += left
		r.tape.Notice(fmt.Sprintf("session %s is throttled: %d records were left out; %s",
			r.spec.Name, left, r.sessions.allowance(r.spec.Namespace)))
	}
	_ = m.tellExcess(time.Now(), end, func(text string) error {
		r.tape.Notice(text)
		return nil
	})
}

// loss is what the session has lost since it began.
func (r *recorder) loss() *wire.Loss {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := proto.CloneOf(&r.past)
	if r.member != nil {
		loss, _ := r.member.loss()
		sum.Add(loss)
	}
	return sum
}

// close ends all, also for those who read.
func (r *recorder) close() {
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tape != nil {
		r.tape.Close()
	}
	r.phase = wire.SessionState_STOPPED
	r.sessions.poke()
}
