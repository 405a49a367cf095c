// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cilium/ebpf/btf"

	"nodegadget.dev/pkg/btf/witness"
)

// RefusedError says that types aren't this kernel's, or can't be proven to be.
type RefusedError struct {
	// Place is where the types come from, Release the kernel's.
	Place, Release string
	// Proven types are proven wrong: Reason says how. The others can't be proven at all.
	Proven bool
	Reason string
	// Err is why the witness could not be asked, nil if it was.
	Err error
}

func (e *RefusedError) Error() string {
	if e.Err != nil {
		return e.Why()
	}
	return e.Why() + "; name the BTF of exactly this kernel"
}

// Unwrap gives access to Err.
func (e *RefusedError) Unwrap() error { return e.Err }

// Why is the error without what to do.
func (e *RefusedError) Why() string {
	verdict := "can't be proven to be this kernel's"
	if e.Proven {
		verdict = "isn't this kernel's"
	}
	return fmt.Sprintf("BTF %s %s (%s): %s", e.Place, verdict, e.Release, e.Reason)
}

// prove makes types of a candidate if they are this kernel's. Whole kernels are
// first cut down to what is needed: the rest would only take memory.
func (c *Chooser) prove(ctx context.Context, r request, cand candidate) (Types, error) {
	raw := cand.raw
	// Tailoring renumbers types, which only relocations for numbers could notice.
	if cand.full && len(r.needs.TypeIDs()) == 0 {
		var err error
		if raw, err = r.needs.Tailor(raw); err != nil {
			return Types{}, fmt.Errorf("BTF %s can't be used: %w", cand.source.Place(), err)
		}
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		return Types{}, fmt.Errorf("BTF %s can't be used: %w", cand.source.Place(), err)
	}
	types := Types{Spec: spec, Source: cand.source}
	testimony, err := c.check(ctx, spec)
	switch {
	case err != nil && cand.proven:
		types.Source.Proof = "build-id is the kernel's"
		return types, nil
	case err != nil:
		return Types{}, &RefusedError{Place: cand.source.Place(), Release: c.id.Release, Reason: err.Error(), Err: err}
	}
	types.Source.Testimony = &testimony
	refused := &RefusedError{Place: cand.source.Place(), Release: c.id.Release}
	switch {
	case len(testimony.Disagreed) > 0:
		refused.Proven, refused.Reason = true, testimony.Disagreement()
		return Types{}, refused
	case cand.proven:
		types.Source.Proof = "build-id is the kernel's, " + testimony.String()
	case len(testimony.Agreed) < witness.MinFacts:
		refused.Reason = fmt.Sprintf("%s, want at least %d; what is tailored must also serve the witness, as btfgen sees to",
			testimony, witness.MinFacts)
		return Types{}, refused
	default:
		types.Source.Proof = testimony.String()
	}
	return types, nil
}
