// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fakePrograms puts shell scripts first into PATH.
func fakePrograms(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// fakeArchive is a store whose archives have the sample index, and a mirror that
// lost the packages of 7.3 and counts downloads.
func fakeArchive(t *testing.T) (*store, func() int) {
	t.Helper()
	counter := filepath.Join(t.TempDir(), "downloads")
	index := filepath.Join(t.TempDir(), "index")
	s := &store{dir: t.TempDir(), progress: &bytes.Buffer{}}
	for path, content := range map[string]string{
		index:   sampleIndex,
		counter: "",
		filepath.Join(s.dir, "apt", "good-amd64", "updated"):  "",
		filepath.Join(s.dir, "apt", "other-amd64", "updated"): "",
	} {
		if err := writeAtomically(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	fakePrograms(t, map[string]string{
		"apt-cache": "cat " + index,
		"apt-get": `echo x >>` + counter + `
for last; do :; done
case $last in *7.3.4*) echo 'E: Failed to fetch it  404  Not Found' >&2; echo 'E: Some index files' >&2; exit 100;; esac
echo "$last" >it.deb
`,
	})
	return s, func() int {
		data, err := os.ReadFile(counter)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(data, []byte("\n"))
	}
}

// copyDeb is an unpacker that keeps the package as it is.
func copyDeb(_ context.Context, deb, dir string) error {
	data, err := os.ReadFile(deb)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, bootFile), data, 0o644)
}

func testSource(pattern string, suites ...string) source {
	return source{Suites: suites, Package: struct{ *regexp.Regexp }{regexp.MustCompile(pattern)}}
}

func TestFetchFallsBackAndRemembers(t *testing.T) {
	s, downloads := fakeArchive(t)
	from := testSource(`^linux-binary-7.*-cloud-amd64$`, "good", "other")

	first, err := s.fetch(t.Context(), "newest", "amd64", from, copyDeb)
	if err != nil {
		t.Fatal(err)
	}
	if first.Package.Version != "7.2.12-1~bpo13+1" {
		t.Errorf("chose %s, want the newest the mirror still has", first.Package)
	}
	data, err := os.ReadFile(s.image(first).Boot)
	if err != nil || string(data) != "linux-binary-7.2.12+deb13-cloud-amd64:amd64=7.2.12-1~bpo13+1\n" {
		t.Errorf("unpacked %q, error %v", data, err)
	}
	if progress := s.progress.(*bytes.Buffer).String(); !strings.Contains(progress, "404") {
		t.Errorf("progress does not tell of the lost package: %s", progress)
	}

	before := downloads()
	if again, err := s.fetch(t.Context(), "newest", "amd64", from, copyDeb); err != nil || again.Dir != first.Dir {
		t.Errorf("second time got %+v, error %v", again, err)
	}
	if downloads() != before {
		t.Error("the second time something was downloaded")
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "tmp", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}

	// Another question, another answer, also under the same name.
	other, err := s.fetch(t.Context(), "newest", "amd64", testSource(`^linux-image-6\.18\.`, "good"), copyDeb)
	if err != nil || other.Package.Version != "6.18.15-1~bpo13+1" {
		t.Errorf("got %s, error %v", other.Package, err)
	}
}

func TestFetchErrors(t *testing.T) {
	s, _ := fakeArchive(t)
	broken := func(context.Context, string, string) error { return errors.New("no kernel") }
	for _, tc := range []struct {
		name   string
		from   source
		unpack unpacker
		want   string
	}{
		{"no match", testSource(`^linux-image-4`, "good", "other"), copyDeb, "no package ^linux-image-4 for amd64 in [good other]"},
		{"all lost", testSource(`7\.3\.4`, "good"), copyDeb, "every candidate was skipped, try --refresh"},
		{"all lost, apt's reason", testSource(`7\.3\.4`, "good"), copyDeb, "E: Failed to fetch it  404"},
		{"broken package", testSource(`^linux-image-6`, "good"), broken, "unpacking: no kernel"},
	} {
		_, err := s.fetch(t.Context(), "k", "amd64", tc.from, tc.unpack)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one with %q", tc.name, err, tc.want)
		}
		if _, ok := s.chosen("k", "amd64", tc.from); ok {
			t.Errorf("%s: a choice is remembered", tc.name)
		}
	}
}

func TestFetchHonoursContext(t *testing.T) {
	s, _ := fakeArchive(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.fetch(ctx, "k", "amd64", testSource(`^linux-image-6`, "good"), copyDeb); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lockDir(short, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: error is %v", err)
	}
	unlock()
	unlock, err = lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestParseTargets(t *testing.T) {
	const main, security = "http://mirror.example/debian/", "http://mirror.example/debian-security/"
	for name, targets := range map[string]string{
		"lists":    "https://other.example/debian/ Other Other\n" + main + " Debian Debian\n" + security + " Debian Debian-Security\n",
		"no lists": "https://packages.example/apt  \n" + security + "  \n" + main + "  \n",
	} {
		if got := parseTargets(targets); got != (mirrors{Main: main, Security: security}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := parseTargets("http://mirror.example/ubuntu/ Ubuntu Ubuntu\n"); got != (mirrors{}) {
		t.Errorf("of a machine that is not Debian: %+v", got)
	}
}

func TestReasonIn(t *testing.T) {
	for stderr, want := range map[string]string{
		"": "",
		"warning\nxz: (stdin): File format not recognized\n\n":       "xz: (stdin): File format not recognized",
		"W: careful\nE: Failed to fetch\nE: Some index files failed": "E: Failed to fetch",
	} {
		if got := reasonIn(stderr); got != want {
			t.Errorf("%q: %q, want %q", stderr, got, want)
		}
	}
}
