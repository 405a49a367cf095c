// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// keyring is what the signatures of every suite are checked with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// mirrors are the addresses Debian is fetched from.
type mirrors struct {
	Main     string
	Security string
}

// machineMirrors returns the mirrors this machine's own apt uses, as far as the
// given ones are empty.
func machineMirrors(ctx context.Context, given mirrors) (mirrors, error) {
	if given.Main != "" && given.Security != "" {
		return given, nil
	}
	cmd, err := command(ctx, "apt", "apt-get", "indextargets",
		"--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages")
	if err != nil {
		return mirrors{}, err
	}
	out, err := output(cmd)
	if err != nil {
		return mirrors{}, fmt.Errorf("asking apt for its mirrors: %w", err)
	}

	found := parseTargets(string(out))
	if given.Main != "" {
		found.Main = given.Main
	}
	if given.Security != "" {
		found.Security = given.Security
	}
	if found.Main == "" || found.Security == "" {
		return mirrors{}, errors.New("this machine's apt knows no Debian mirror: give --mirror and --security-mirror")
	}
	return found, nil
}

// parseTargets picks Debian's own entries. Without package lists on the machine
// (a fresh container image) apt knows the addresses but not whose they are; then
// the name of the directory has to tell.
func parseTargets(targets string) mirrors {
	var named, guessed mirrors
	for line := range strings.Lines(targets) {
		uri, who, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch dir := filepath.Base(uri); {
		case who == "Debian Debian":
			named.Main = uri
		case who == "Debian Debian-Security":
			named.Security = uri
		case dir == "debian":
			guessed.Main = uri
		case dir == "debian-security":
			guessed.Security = uri
		}
	}
	if named.Main == "" {
		named.Main = guessed.Main
	}
	if named.Security == "" {
		named.Security = guessed.Security
	}
	return named
}

// archive is one suite of one architecture, seen through apt with a state of its
// own: the machine's apt is neither touched nor asked.
type archive struct {
	root    string
	suite   string
	arch    arch
	mirrors mirrors
}

// update fetches the index of the suite and checks its signature.
func (a archive) update(ctx context.Context) error {
	if err := a.configure(ctx); err != nil {
		return err
	}
	cmd, err := a.apt(ctx, "apt-get", "-qq", "--error-on=any", "update")
	if err != nil {
		return err
	}
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("fetching index of %s: %w", a.suite, err)
	}
	return os.WriteFile(a.stamp(), nil, 0o644)
}

// indexed reports whether the index is there.
func (a archive) indexed() bool {
	_, err := os.Stat(a.stamp())
	return err == nil
}

func (a archive) stamp() string { return filepath.Join(a.root, "updated") }

// packages lists what the suite has.
func (a archive) packages(ctx context.Context) ([]pkg, error) {
	cmd, err := a.apt(ctx, "apt-cache", "dumpavail")
	if err != nil {
		return nil, err
	}
	out, err := output(cmd)
	if err != nil {
		return nil, fmt.Errorf("reading index of %s: %w", a.suite, err)
	}
	return parseIndex(bytes.NewReader(out))
}

// download puts the .deb into dir, which must be empty; apt checks its hash
// against the signed index.
func (a archive) download(ctx context.Context, p pkg, dir string) (string, error) {
	cmd, err := a.apt(ctx, "apt-get", "-qq", "download", fmt.Sprintf("%s:%s=%s", p.Name, a.arch, p.Version))
	if err != nil {
		return "", err
	}
	cmd.Dir = dir
	if _, err := output(cmd); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get left %d packages instead of one", len(debs))
	}
	return debs[0], nil
}

// configure writes the apt configuration of this archive.
func (a archive) configure(ctx context.Context) error {
	if _, err := os.Stat(keyring); err != nil {
		return fmt.Errorf("%s is not installed: apt-get install debian-archive-keyring", keyring)
	}
	for _, dir := range []string{"etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.root, dir), 0o755); err != nil {
			return err
		}
	}
	network, err := networkSettings(ctx)
	if err != nil {
		return err
	}
	uri := a.mirrors.Main
	if strings.HasSuffix(a.suite, "-security") {
		uri = a.mirrors.Security
	}

	files := map[string]string{
		"status":               "", // no package is installed
		"apt.conf":             a.settings() + network,
		"etc/apt/sources.list": fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, uri, a.suite),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(a.root, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// settings keep apt inside root. The index of a suite that is no longer
// maintained has run out and is still signed, so its age is not checked.
func (a archive) settings() string {
	return fmt.Sprintf(`Dir "%[1]s/";
Dir::State::status "%[1]s/status";
APT::Architecture "%[2]s";
APT::Architectures { "%[2]s"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
`, a.root, a.arch)
}

// networkSettings are the machine's own ways out, such as a proxy. Its hooks and
// the rest of its configuration are left behind.
func networkSettings(ctx context.Context) (string, error) {
	cmd, err := command(ctx, "apt", "apt-config", "dump", "Acquire::http", "Acquire::https")
	if err != nil {
		return "", err
	}
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("asking apt for its proxy: %w", err)
	}
	return string(out), nil
}

func (a archive) apt(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	cmd, err := command(ctx, "apt", name, args...)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.root, "apt.conf"), "LC_ALL=C")
	return cmd, nil
}
