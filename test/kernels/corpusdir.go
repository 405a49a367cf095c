// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"

	"nodegadget.dev/pkg/btf/layout"
)

// corpus is a directory in the layout of BTFHub's archive, and beside it, not in
// it, a file that remembers what came from where. It is safe for concurrent use.
type corpus struct {
	dir       string
	stateFile string

	mu    sync.Mutex
	state corpusState
}

type corpusState struct {
	Answered []string             `json:"answered"` // questions of lines
	Kernels  map[string]collected `json:"kernels"`  // by file
}

// collected is one kernel of the corpus.
type collected struct {
	Package string `json:"package"` // see packageKey
	Raw     int64  `json:"raw"`     // bytes of BTF
	Packed  int64  `json:"packed"`  // bytes of the file
}

// openCorpus forgets files that are no longer there, and with them all answers.
func openCorpus(dir, stateFile string) (*corpus, error) {
	c := &corpus{dir: dir, stateFile: stateFile}
	data, err := os.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = []byte("{}"), nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &c.state); err != nil {
		return nil, fmt.Errorf("reading %s: %w: remove it to collect anew", stateFile, err)
	}
	if c.state.Kernels == nil {
		c.state.Kernels = make(map[string]collected)
	}
	for file, k := range c.state.Kernels {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil || info.Size() != k.Packed {
			delete(c.state.Kernels, file)
			c.state.Answered = nil
		}
	}
	return c, nil
}

func (c *corpus) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.state.Kernels {
		if k.Package == key {
			return true
		}
	}
	return false
}

func (c *corpus) answered(question string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.state.Answered, question)
}

func (c *corpus) setAnswered(question string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.state.Answered, question) {
		c.state.Answered = append(c.state.Answered, question)
	}
	return c.save()
}

// add packs a kernel's BTF under its own name in the folder of a distribution.
func (c *corpus) add(ctx context.Context, key string, name layout.Kernel, a arch, boot, btf []byte) error {
	var err error
	if name.Uname, err = releaseOf(boot); err != nil {
		return err
	}
	if name.Arch, err = layout.Arch(string(a)); err != nil {
		return err
	}
	if err := name.Validate(); err != nil {
		return err
	}
	packed, err := packBTF(ctx, name.Uname, btf, filepath.Join(c.dir, name.File()))
	if err != nil {
		return fmt.Errorf("packing: %w", err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Kernels[name.File()] = collected{Package: key, Raw: int64(len(btf)), Packed: packed}
	return c.save()
}

// save needs the lock to be held.
func (c *corpus) save() error {
	data, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomically(c.stateFile, append(data, '\n'))
}

// print writes a table with a line for each folder, and returns the number of
// kernels.
func (c *corpus) print(stdout io.Writer) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	type sum struct {
		kernels     int
		raw, packed int64
	}
	var total sum
	sums := make(map[string]sum)
	for file, k := range c.state.Kernels {
		s := sums[path.Dir(file)]
		sums[path.Dir(file)] = sum{s.kernels + 1, s.raw + k.Raw, s.packed + k.Packed}
		total = sum{total.kernels + 1, total.raw + k.Raw, total.packed + k.Packed}
	}

	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, s sum) {
		fmt.Fprintf(w, "%s\t%d\t%.1f MB\t%.1f MB\t\n", name, s.kernels, float64(s.raw)/1e6, float64(s.packed)/1e6)
	}
	fmt.Fprintln(w, "FOLDER\tKERNELS\tRAW\tPACKED\t")
	folders := make([]string, 0, len(sums))
	for folder := range sums {
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	for _, folder := range folders {
		row(folder, sums[folder])
	}
	row(c.dir, total)
	_ = w.Flush()
	return total.kernels
}
