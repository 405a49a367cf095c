// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// MaxObjectSize bounds an object file, in bytes. The built-in ones have about 60 KiB.
const MaxObjectSize = 8 << 20

// Object is a parsed gadget: its Spec and the programs and maps to be loaded.
type Object struct {
	Spec Spec
	// Content is the file.
	Content []byte
	// Collection is as it stands in the file. Loaders work on a copy.
	Collection *ebpf.CollectionSpec
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9]*_[a-z][a-z0-9_]*$`)

var errNoBTF = errors.New("object has no BTF: build it with -g")

// Parse reads an object file.
func Parse(object []byte) (*Object, error) {
	if len(object) > MaxObjectSize {
		return nil, fmt.Errorf("object has %d bytes, at most %d are read", len(object), MaxObjectSize)
	}
	collection, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		if _, err := btf.LoadSpecFromReader(bytes.NewReader(object)); errors.Is(err, btf.ErrNotFound) {
			return nil, errNoBTF
		}
		return nil, printableError{fmt.Errorf("reading eBPF object: %w", err)}
	}
	if collection.Types == nil {
		return nil, errNoBTF
	}
	spec, err := parseSpec(collection)
	if err != nil {
		return nil, printableError{err}
	}
	return &Object{Spec: *spec, Content: object, Collection: collection}, nil
}

// printableError is one line, although the names in it are the object's.
type printableError struct{ error }

func (e printableError) Error() string { return clean(e.error.Error()) }

func (e printableError) Unwrap() error { return e.error }

func parseSpec(collection *ebpf.CollectionSpec) (*Spec, error) {
	var spec Spec
	var err error
	if spec.Name, spec.Description, err = parseIdentity(collection.Types); err != nil {
		return nil, err
	}
	if spec.Source, err = parseSource(collection); err != nil {
		return nil, fmt.Errorf("gadget %s: %w", spec.Name, err)
	}
	if spec.Params, err = parseParams(collection); err != nil {
		return nil, fmt.Errorf("gadget %s: %w", spec.Name, err)
	}
	if spec.Groups, err = parseGroups(collection.Programs); err != nil {
		return nil, fmt.Errorf("gadget %s: %w", spec.Name, err)
	}
	if err := checkConditions(&spec); err != nil {
		return nil, fmt.Errorf("gadget %s: %w", spec.Name, err)
	}
	return &spec, nil
}

// parseIdentity finds the variable that GADGET() declares: the licence, which is
// never loaded and so costs nothing.
func parseIdentity(types *btf.Spec) (name, doc string, err error) {
	var license *btf.Var
	if err := types.TypeByName("gadget_license", &license); err != nil {
		return "", "", errors.New("object is not a gadget: it has no GADGET(name, description)")
	}
	tags := parseTags(license.Tags)
	name, doc = tags.value("gadget"), tags.value("doc")
	if !namePattern.MatchString(name) {
		return "", "", fmt.Errorf("gadget name %.64q is not of the form verb_noun", name)
	}
	if doc == "" {
		return "", "", fmt.Errorf("gadget %s has no description", name)
	}
	return name, doc, nil
}

// checkConditions makes sure that GADGET_WHEN names boolean parameters.
func checkConditions(spec *Spec) error {
	for _, group := range spec.Groups {
		for _, alternative := range group.Alternatives {
			for _, program := range alternative.Programs {
				if program.When == "" {
					continue
				}
				param, ok := spec.Param(program.When)
				if !ok || param.Kind != Bool {
					return fmt.Errorf("program %s: GADGET_WHEN(%s): no boolean parameter of that name", program.Name, program.When)
				}
			}
		}
	}
	return nil
}
