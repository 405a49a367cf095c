// SPDX-License-Identifier: Apache-2.0

// Package socket connects to the sockets of a host whose file system is somewhere
// below the own one. Links are followed as on that host, and never out of it.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// connectTimeout is for one attempt to connect.
	connectTimeout = 2 * time.Second
	// maxBackoff is short, as nobody else is asked: the socket is this host's.
	maxBackoff = 2 * time.Second
	// maxMessage is what containerd itself takes for the limit.
	maxMessage = 16 << 20
)

// errNotSocket says that there is something else where a socket should be.
var errNotSocket = errors.New("not a socket")

// Socket is a Unix socket of a host.
type Socket struct {
	// Root is where the host's file system is; "" is the own one.
	Root string
	// Path is the socket's on the host.
	Path string
}

// Identity tells a socket from the one that was at its place before.
type Identity struct {
	device, inode uint64
	changed       unix.Timespec
}

// Identity looks at what is there now.
func (s Socket) Identity() (Identity, error) {
	file, stat, err := s.open()
	if err != nil {
		return Identity{}, err
	}
	file.Close()
	return Identity{device: stat.Dev, inode: stat.Ino, changed: stat.Ctim}, nil
}

// Connect makes a connection that is established when it is first used, and anew
// whenever it broke. So there need not be a socket yet.
func (s Socket) Connect() (*grpc.ClientConn, error) {
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 50*time.Millisecond, maxBackoff
	conn, err := grpc.NewClient("passthrough:///"+s.Path,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.Dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		// A path is no valid authority; some servers mind.
		grpc.WithAuthority("localhost"),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing to connect to %s: %w", s.Path, err)
	}
	return conn, nil
}

// Dial connects to the very socket that was found without leaving the root, through
// its descriptor: looking its path up again would follow links as they are then.
func (s Socket) Dial(ctx context.Context) (net.Conn, error) {
	file, _, err := s.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	var op *net.OpError
	if errors.As(err, &op) { // without the descriptor's path, which tells nothing
		err = op.Err
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", s.Path, err)
	}
	return conn, nil
}

// open opens the socket as a place (O_PATH): neither read nor written.
func (s Socket) open() (*os.File, unix.Stat_t, error) {
	root := s.Root
	if root == "" {
		root = "/"
	}
	var stat unix.Stat_t
	file, err := pathrs.OpenInRoot(root, s.Path)
	if err != nil {
		return nil, stat, fmt.Errorf("opening %s: %w", s.Path, cause(err))
	}
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		file.Close()
		return nil, stat, fmt.Errorf("reading %s: %w", s.Path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		file.Close()
		return nil, stat, fmt.Errorf("opening %s: %w", s.Path, errNotSocket)
	}
	return file, stat, nil
}

// cause leaves out of err the paths that it was met at, which aren't the host's.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
