// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// storeOptions are the flags all commands share.
type storeOptions struct {
	Matrix  string     // file; empty: the one that is compiled in
	Kernels []string   // names or patterns
	BTF     []btfState // with both empty: the kernels that show their BTF
	Cache   string
	Mirrors mirrors
	Refresh bool
	Modules bool // fetch them as well
}

// load reads the matrix and selects kernels.
func (o storeOptions) load() (*matrix, []kernel, error) {
	data := defaultMatrix
	if o.Matrix != "" {
		var err error
		if data, err = os.ReadFile(o.Matrix); err != nil {
			return nil, nil, fmt.Errorf("reading matrix: %w", err)
		}
	}
	m, err := parseMatrix(data)
	if err != nil {
		return nil, nil, err
	}
	kernels, err := m.selected(o.Kernels, o.BTF)
	return m, kernels, err
}

func (o storeOptions) open(progress io.Writer) *store {
	return &store{dir: filepath.Join(o.Cache, "kernels"), mirrors: o.Mirrors, refresh: o.Refresh, progress: progress}
}

func (o *storeOptions) register(fs *flag.FlagSet) {
	fs.Func("kernel", "`name` or shell pattern of a kernel of the matrix, may be repeated (default: as --btf says)", appendTo(&o.Kernels))
	fs.Func("btf", "only kernels whose BTF is one of `present,hidden,none` (default: present, or with --kernel all)", o.addBTF)
	fs.StringVar(&o.Matrix, "matrix", "", "`file` with the matrix (default: the built-in one)")
	fs.StringVar(&o.Cache, "cache", defaultCache(), "`directory` for what is fetched")
	fs.StringVar(&o.Mirrors.Main, "mirror", "", "`address` of a Debian mirror (default: the one of this machine's apt)")
	fs.StringVar(&o.Mirrors.Security, "security-mirror", "", "`address` of a mirror of Debian's security archive (default: likewise)")
	fs.BoolVar(&o.Refresh, "refresh", false, "read the package indexes again and take what is newest now")
}

func (o *storeOptions) addBTF(s string) error {
	for state := range strings.SplitSeq(s, ",") {
		if err := btfState(state).validate(); err != nil {
			return err
		}
		o.BTF = append(o.BTF, btfState(state))
	}
	return nil
}

// defaultCache is empty where there is no home; the flag must be given then.
func defaultCache() string {
	if dir := os.Getenv("NODEGADGET_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "nodegadget")
}

// resolve makes paths absolute: apt and the compiler run in other directories.
func (o *storeOptions) resolve() error {
	if o.Cache == "" {
		return errors.New("there is no home directory: give --cache")
	}
	var err error
	o.Cache, err = filepath.Abs(o.Cache)
	return err
}

// parseStoreFlags parses the flags of list and fetch.
func parseStoreFlags(command string, args []string) (storeOptions, error) {
	var o storeOptions
	fs := newFlagSet(command)
	o.register(fs)
	if command == "fetch" {
		fs.BoolVar(&o.Modules, "modules", false, "also fetch the kernels' modules, and print their directory")
	}
	if err := parse(fs, args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%s takes no arguments, got %q", command, fs.Arg(0))
	}
	return o, o.resolve()
}

// parseCorpusFlags parses the flags of corpus.
func parseCorpusFlags(args []string) (corpusOptions, error) {
	var o corpusOptions
	fs := newFlagSet("corpus")
	o.register(fs)
	fs.StringVar(&o.List, "list", "", "`file` that says which kernels (default: the built-in one)")
	fs.BoolVar(&o.Built, "built", false, "also build the kernels of the matrix that are built, instead of taking them when they are in the cache")
	fs.IntVar(&o.AtLeast, "at-least", 50, "fail if there are fewer kernels")
	if err := parse(fs, args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("corpus takes no arguments, got %q", fs.Arg(0))
	}
	return o, o.resolve()
}

// parseRunFlags parses the flags of run; what follows them is for the binary.
func parseRunFlags(args []string) (runOptions, error) {
	o := runOptions{Binaries: make(map[arch]string)}
	fs := newFlagSet("run")
	o.register(fs)
	fs.IntVar(&o.Jobs, "jobs", 2, "guests at a time")
	fs.DurationVar(&o.Timeout, "timeout", 4*time.Minute, "of one guest")
	fs.StringVar(&o.LogDir, "log-dir", "", "`directory` for the consoles (default: a new one, kept only if a kernel failed)")
	fs.Func("bin", "`arch=path` of the static binary to run, once for each architecture", o.addBinary)
	fs.Func("env", "`key=value` for the environment of the binary, may be repeated", o.addEnv)
	fs.Func("add", "`hostpath:guestpath` of a file or directory to put into the guest, may be repeated", o.addAddition)
	if err := parse(fs, args); err != nil {
		return o, err
	}
	o.Task.Args = fs.Args()
	if o.Jobs < 1 || o.Timeout <= 0 {
		return o, errors.New("--jobs and --timeout must be positive")
	}
	return o, o.resolve()
}

func (o *runOptions) addBinary(s string) error {
	a, path, ok := strings.Cut(s, "=")
	if !ok || path == "" {
		return errors.New("want arch=path")
	}
	if _, err := arch(a).machine(); err != nil {
		return err
	}
	o.Binaries[arch(a)] = path
	return nil
}

func (o *runOptions) addEnv(s string) error {
	if strings.IndexByte(s, '=') < 1 {
		return errors.New("want key=value")
	}
	o.Task.Env = append(o.Task.Env, s)
	return nil
}

func (o *runOptions) addAddition(s string) error {
	a, err := parseAddition(s)
	o.Add = append(o.Add, a)
	return err
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}

// newFlagSet keeps the flag package from printing; see parse.
func newFlagSet(command string) *flag.FlagSet {
	fs := flag.NewFlagSet("kernels "+command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// parse explains the flags when asked to; a wrong one costs a line, not a page.
func parse(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fs.Usage()
	}
	return err
}
