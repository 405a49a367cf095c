// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// recipes are the folders an entry of the matrix can name. They are compiled in,
// so that the program does not have to be run from a checkout.
//
//go:embed nobtf
var recipes embed.FS

// Names in a recipe, and in the cache of what a build makes besides the kernel.
const (
	recipeScript = "build.sh"
	sourceFile   = "linux-source.tar.xz"
	releaseFile  = "release" // uname -r
	configFile   = "config"
)

var sourceMember = regexp.MustCompile(`^usr/src/linux-source-[^/]+\.tar\.xz$`)

// recipe is a folder with a script that builds a kernel, and what the script
// reads: content by file name.
type recipe map[string][]byte

func readRecipe(folder string) (recipe, error) {
	entries, err := fs.ReadDir(recipes, folder)
	if err != nil {
		return nil, fmt.Errorf("build: no recipe %q", folder)
	}
	r := make(recipe)
	for _, e := range entries {
		if r[e.Name()], err = fs.ReadFile(recipes, path.Join(folder, e.Name())); err != nil {
			return nil, err
		}
	}
	if r[recipeScript] == nil {
		return nil, fmt.Errorf("build: recipe %q has no %s", folder, recipeScript)
	}
	return r, nil
}

// key changes with every byte of the recipe.
func (r recipe) key() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(r)) {
		fmt.Fprintf(h, "%q %d\n", name, len(r[name]))
		h.Write(r[name])
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:6])
}

// write puts the recipe into an empty directory.
func (r recipe) write(dir string) error {
	for name, content := range r {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// unpackSource leaves the tar of the kernel's source in dir.
func unpackSource(ctx context.Context, deb, dir string) error {
	source, err := debMember(ctx, deb, sourceMember)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sourceFile), source, 0o644)
}

// built returns a kernel that is built from the source in a package. It is built
// again when the package or the recipe has changed.
func (s *store) built(ctx context.Context, k kernel) (kernelImage, error) {
	source, err := s.fetch(ctx, k.cacheName(), k.Arch, k.Source, unpackSource)
	if err != nil {
		return kernelImage{}, fmt.Errorf("fetching source of kernel %s: %w", k.Name, err)
	}
	// A lock of its own: it is held for many minutes.
	unlock, err := lockDir(ctx, filepath.Join(s.dir, "build"))
	if err != nil {
		return kernelImage{}, err
	}
	defer unlock()
	if image, ok := s.cached(k); ok {
		return image, nil
	}
	c, err := s.buildChoice(k, source)
	if err != nil {
		return kernelImage{}, err
	}
	if err := s.build(ctx, k, filepath.Join(s.dir, source.Dir, sourceFile), filepath.Join(s.dir, c.Dir)); err != nil {
		return kernelImage{}, fmt.Errorf("building kernel %s: %w", k.Name, err)
	}
	return s.image(c), nil
}

// buildChoice is where the kernel lies that is built from a source.
func (s *store) buildChoice(k kernel, source choice) (choice, error) {
	r, err := readRecipe(k.Build)
	if err != nil {
		return choice{}, err
	}
	source.Dir += "-" + r.key()
	return source, nil
}

// build follows the recipe and moves what it made to the final directory.
func (s *store) build(ctx context.Context, k kernel, source, final string) error {
	r, err := readRecipe(k.Build)
	if err != nil {
		return err
	}
	tmp, err := s.tempDir("build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	here, work, out := filepath.Join(tmp, "recipe"), filepath.Join(tmp, "work"), filepath.Join(tmp, "out")
	if err := errors.Join(os.Mkdir(here, 0o755), os.Mkdir(work, 0o755), os.Mkdir(out, 0o755), r.write(here)); err != nil {
		return err
	}

	logFile := filepath.Join(s.dir, "build", k.cacheName()+".log")
	fmt.Fprintf(s.progress, "building kernel %s, log in %s\n", k.Name, logFile)
	if err := runRecipe(ctx, logFile, s.progress, filepath.Join(here, recipeScript), source, work, out); err != nil {
		return fmt.Errorf("%w, see %s", err, logFile)
	}
	if err := checkBuild(out); err != nil {
		return fmt.Errorf("%w, see %s", err, logFile)
	}
	return os.Rename(out, final)
}

// runRecipe runs the script; what it says on its standard output is progress,
// what else it and its compilers say goes into the log only.
func runRecipe(ctx context.Context, logFile string, progress io.Writer, script string, args ...string) error {
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := command(ctx, "bash", "bash", append([]string{script}, args...)...)
	if err != nil {
		return err
	}
	clock := &elapsed{out: progress, since: time.Now()}
	cmd.Stdout = io.MultiWriter(log, clock)
	cmd.Stderr = log
	// The compilers too have to end when the script does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	stop := clock.remind(time.Minute)
	err = cmd.Run()
	stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(script), err)
	}
	clock.say("done")
	return nil
}

// elapsed writes the time before what a script says.
type elapsed struct {
	out   io.Writer
	since time.Time
	mu    sync.Mutex
	last  string
}

func (e *elapsed) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		e.say(strings.TrimSpace(line))
	}
	return len(p), nil
}

func (e *elapsed) say(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = what
	fmt.Fprintf(e.out, "%7s  %s\n", time.Since(e.since).Round(time.Second), what)
}

// remind repeats what was said last, until stopped: compilers are silent.
func (e *elapsed) remind(every time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				e.mu.Lock()
				last := e.last
				e.mu.Unlock()
				e.say(last)
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// checkBuild refuses what can't be the kernel that was asked for.
func checkBuild(dir string) error {
	for _, name := range []string{bootFile, btfFile, releaseFile, configFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Size() == 0 {
			return fmt.Errorf("the build left no %s", name)
		}
	}
	image, err := os.ReadFile(filepath.Join(dir, bootFile))
	if err != nil {
		return err
	}
	if _, err := findBTF(image); err == nil {
		return errors.New("the kernel has BTF")
	}
	return nil
}
