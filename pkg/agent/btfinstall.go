// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/rootfile"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/gadget"
)

// Installation says where to put types for other tools.
type Installation struct {
	// Root is the file system to write to, empty for "/".
	Root string
	// Force replaces a file that is there, and installs types also where the kernel
	// carries its own.
	Force bool
}

// InstallBTF writes the types that an agent with this setup would use to a place
// where libbpf looks for them, as an ELF file with a .BTF section, and says in
// one line what it did.
func InstallBTF(ctx context.Context, setup Setup, to Installation) (string, error) {
	catalog, err := setup.catalog()
	if err != nil {
		return "", err
	}
	chooser, err := setup.chooser()
	if err != nil {
		return "", err
	}
	defer chooser.Close()
	return install(ctx, chooser, catalog, to)
}

// InstallBTF is the function of that name for the types that this agent uses.
func (a *Agent) InstallBTF(ctx context.Context, to Installation) (string, error) {
	return install(ctx, a.opts.Chooser, a.opts.Gadgets, to)
}

func install(ctx context.Context, chooser *kernel.Chooser, catalog *gadget.Catalog, to Installation) (string, error) {
	id := chooser.Identity()
	if chooser.InKernel() && !to.Force {
		return fmt.Sprintf("nothing to install: kernel %s carries its own BTF, which every tool finds", id.Release), nil
	}
	objects, err := contents(catalog)
	if err != nil {
		return "", err
	}
	raw, source, err := chooser.Raw(ctx, objects...)
	if err != nil {
		return "", err
	}
	if to.Root == "" {
		to.Root = "/"
	}
	name := path.Join("boot", "vmlinux-"+id.Release)
	written, err := to.write(name, kernel.EncodeELF(raw, id.Arch))
	if err != nil {
		return "", fmt.Errorf("installing BTF: %w", err)
	}
	what := "the kernel's types"
	if source.Tailored {
		what = "the types that these gadgets need; other tools may need more"
	}
	verb := "installed"
	if !written {
		verb = "is there already:"
	}
	return fmt.Sprintf("%s %s (%d bytes of BTF from %s: %s)", verb, path.Join(to.Root, name), len(raw), source.Place(), what), nil
}

func contents(catalog *gadget.Catalog) ([]tailor.Object, error) {
	var objects []tailor.Object
	for _, name := range catalog.Names() {
		object, err := catalog.Object(name)
		if err != nil {
			return nil, err
		}
		objects = append(objects, tailor.Object{Name: name, Content: object.Content})
	}
	return objects, nil
}

// write puts a file in place at once, and says whether it had to. Links that lead
// out of the root are refused.
func (i Installation) write(name string, content []byte) (bool, error) {
	if path.Dir(name) != "boot" {
		return false, fmt.Errorf("kernel release %.100q can't be part of a file's name", path.Base(name))
	}
	root, err := os.OpenRoot(i.Root)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if err := root.MkdirAll("boot", 0o755); err != nil {
		return false, err
	}
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case !i.Force:
		if info.Mode().IsRegular() && info.Size() == int64(len(content)) {
			if old, err := root.ReadFile(name); err == nil && bytes.Equal(old, content) {
				return false, nil
			}
		}
		return false, fmt.Errorf("%s is there already and isn't what would be installed: see what it is, or use --force", path.Join(i.Root, name))
	}
	return true, rootfile.Replace(root, name, content)
}
