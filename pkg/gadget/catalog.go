// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Catalog is a set of gadgets: a file system with "<name>/gadget.<arch>.o". An
// object is read when it is asked for.
type Catalog struct {
	files fs.FS
	paths map[string]string
}

// NewCatalog lists the gadgets of files. Of a gadget with objects for several
// architectures it takes the one for arch ("x86_64" or "arm64").
func NewCatalog(files fs.FS, arch string) (*Catalog, error) {
	found, err := fs.Glob(files, "*/gadget.*.o")
	if err != nil {
		return nil, fmt.Errorf("listing gadgets: %w", err)
	}
	c := &Catalog{files: files, paths: map[string]string{}}
	for _, p := range found {
		name := path.Dir(p)
		if _, ok := c.paths[name]; !ok || strings.HasSuffix(p, "."+arch+".o") {
			c.paths[name] = p
		}
	}
	return c, nil
}

// Names lists the gadgets in alphabetical order.
func (c *Catalog) Names() []string { return sortedKeys(c.paths) }

// Object reads a gadget. The error for an unknown name lists the known ones.
func (c *Catalog) Object(name string) (*Object, error) {
	p, ok := c.paths[name]
	if !ok {
		return nil, &UnknownError{Name: name, Known: c.Names()}
	}
	data, err := fs.ReadFile(c.files, p)
	if err != nil {
		return nil, fmt.Errorf("reading gadget %s: %w", name, err)
	}
	object, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading gadget %s: %w", p, err)
	}
	if object.Spec.Name != name {
		return nil, fmt.Errorf("reading gadget %s: the object calls itself %s, its folder %s", p, object.Spec.Name, name)
	}
	return object, nil
}

// UnknownError says that a catalog has no gadget of that name.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	known := slices.Clone(e.Known)
	for i, name := range known {
		known[i] = strings.Replace(name, "_", " ", 1)
	}
	return fmt.Sprintf("unknown gadget %q, known are: %s", strings.Replace(e.Name, "_", " ", 1), strings.Join(known, ", "))
}
