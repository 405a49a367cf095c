// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"nodegadget.dev/pkg/btf/hub/internal/unpack"
)

// maxControl bounds a Debian package's control file, in bytes.
const maxControl = 1 << 20

// Where packages have kernels. Debug packages have the same tree once more below
// usr/lib/debug, some with .debug as suffix; SUSE ships compressed vmlinux files.
var (
	debugMember   = regexp.MustCompile(`^usr/lib/debug/boot/vmlinux-([^/]+?)(?:\.debug)?$`)
	bootMember    = regexp.MustCompile(`^boot/(?:vmlinu[xz]|Image)-([^/]+?)(?:\.(?:gz|xz|zst))?$`)
	modulesMember = regexp.MustCompile(`^(?:usr/lib/debug/)?(?:usr/)?lib/modules/([^/]+)/(?:vmlinu[xz]|Image)(?:\.(?:gz|xz|zst|debug))?$`)
)

// memberUname returns the release of the kernel that a package's file is, or "".
func memberUname(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	for _, re := range []*regexp.Regexp{debugMember, bootMember, modulesMember} {
		if m := re.FindStringSubmatch(name); m != nil {
			return m[1]
		}
	}
	return ""
}

// findDeb reads a Debian package: an ar archive of metadata and files.
func (c *collector) findDeb(ctx context.Context, r *bufio.Reader) (found, error) {
	ar, err := unpack.NewAr(r)
	if err != nil {
		return found{}, err
	}
	var o origin
	for {
		name, content, err := ar.Next()
		if errors.Is(err, io.EOF) {
			return found{}, errors.New("deb: no data.tar")
		}
		if err != nil {
			return found{}, fmt.Errorf("deb: %w", err)
		}
		switch {
		case strings.HasPrefix(name, "control.tar"):
			err = eachFile(content, func(file string, _ int64, r io.Reader) (bool, error) {
				if path.Clean("/"+file) != "/control" {
					return true, nil
				}
				control, err := readBounded(r, maxControl)
				o = originOfControl(string(control))
				return false, err
			})
		case strings.HasPrefix(name, "data.tar"):
			return c.findMember(ctx, o, func(visit fileVisit) error { return eachFile(content, visit) })
		}
		if err != nil {
			return found{}, fmt.Errorf("deb: %.16q: %w", name, err)
		}
	}
}

// fileVisit sees a regular file of a package, and returns whether to go on.
type fileVisit func(name string, size int64, r io.Reader) (bool, error)

// eachFile visits the regular files of a compressed tar.
func eachFile(r io.Reader, visit fileVisit) error {
	stream, _, err := unpack.Reader(r)
	if err != nil {
		return err
	}
	defer stream.Close()
	for files := tar.NewReader(stream); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if more, err := visit(header.Name, header.Size, files); err != nil || !more {
			return err
		}
	}
}

// findRPM reads an rpm package: headers and a cpio archive.
func (c *collector) findRPM(ctx context.Context, r *bufio.Reader) (found, error) {
	meta, err := unpack.ReadRPM(r)
	if err != nil {
		return found{}, err
	}
	payload, _, err := unpack.Reader(r)
	if err != nil {
		return found{}, fmt.Errorf("rpm: %w", err)
	}
	defer payload.Close()
	files := unpack.NewCPIO(payload)
	return c.findMember(ctx, originOfRPM(meta), func(visit fileVisit) error {
		for {
			name, size, content, err := files.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if more, err := visit(name, size, content); err != nil || !more {
				return err
			}
		}
	})
}

// findMember returns the types of the first kernel in a package that has any. The
// rest of the package, mostly modules, is not even decompressed.
func (c *collector) findMember(ctx context.Context, o origin, each func(fileVisit) error) (found, error) {
	var result found
	var failed error
	err := each(func(name string, size int64, r io.Reader) (bool, error) {
		uname := memberUname(name)
		if uname == "" || size == 0 {
			return true, nil
		}
		f, err := c.findStream(ctx, r)
		if err != nil {
			if failed == nil {
				failed = fmt.Errorf("%.200q in the package: %w", name, err)
			}
			return true, ctx.Err()
		}
		o.uname, o.arch = uname, f.origin.arch
		result, result.origin, result.member = f, o, name
		return false, nil
	})
	switch {
	case result.raw != nil:
		return result, nil
	case err != nil:
		return found{}, fmt.Errorf("reading the package: %w", err)
	case failed != nil:
		return found{}, failed
	}
	return found{}, errors.New("no kernel in the package: want boot/vmlinuz-…, lib/modules/…/vmlinuz or usr/lib/debug/…/vmlinux")
}

// findStream finds the types in a file that can be read only once.
func (c *collector) findStream(ctx context.Context, r io.Reader) (found, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(8)
	if err != nil {
		return found{}, err
	}
	if isELF(head) {
		return c.spool(ctx, b)
	}
	image, err := readBounded(b, maxImage)
	if err != nil {
		return found{}, err
	}
	return findImage(image)
}
