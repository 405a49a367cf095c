// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"fmt"
	"strings"
)

// MinFacts is how many facts must agree before types count as proven.
const MinFacts = 3

// Fact is something that was read by the types in question, and what is true.
type Fact struct {
	Name string `json:"name"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// String says what was found instead of what.
func (f Fact) String() string { return fmt.Sprintf("%s is %s, want %s", f.Name, f.Got, f.Want) }

// Testimony is the outcome of a check. A fact is unchecked if the types lack a
// member that leads to it, if the truth can't be known here, or if it is 0, which
// is what most wrong offsets give.
type Testimony struct {
	Agreed    []Fact   `json:"agreed,omitempty"`
	Disagreed []Fact   `json:"disagreed,omitempty"`
	Unchecked []string `json:"unchecked,omitempty"`
}

// String is one line for logs.
func (t Testimony) String() string {
	var names []string
	for _, f := range t.Agreed {
		names = append(names, f.Name)
	}
	line := fmt.Sprintf("%d facts agree", len(names))
	if len(names) > 0 {
		line += " (" + strings.Join(names, ", ") + ")"
	}
	if len(t.Disagreed) > 0 {
		line += fmt.Sprintf(", %d don't: %s", len(t.Disagreed), t.Disagreement())
	}
	return line
}

// maxNamed is how many wrong facts an error names: they all say the same.
const maxNamed = 4

// Disagreement names what is wrong, empty if nothing is.
func (t Testimony) Disagreement() string {
	wrong := make([]string, 0, maxNamed+1)
	for _, f := range t.Disagreed[:min(maxNamed, len(t.Disagreed))] {
		wrong = append(wrong, f.String())
	}
	if more := len(t.Disagreed) - maxNamed; more > 0 {
		wrong = append(wrong, fmt.Sprintf("%d more", more))
	}
	return strings.Join(wrong, "; ")
}

// compare holds what the program read against the truth, in which facts that
// can't be known are missing.
func compare(got *report, truth map[fact]string) Testimony {
	var t Testimony
	for f, name := range factNames {
		read, ok := got.value(fact(f))
		want, known := truth[fact(f)]
		switch {
		case !ok || !known, read == "0" && want == "0":
			t.Unchecked = append(t.Unchecked, name)
		case read == want:
			t.Agreed = append(t.Agreed, Fact{Name: name, Got: read, Want: want})
		default:
			t.Disagreed = append(t.Disagreed, Fact{Name: name, Got: read, Want: want})
		}
	}
	return t
}
